// Bit operations on tensors of integers: reverse, gather every stride-th bit, xor of the indices
// of the set bits.

#include <type_traits>

#include "ops.h"

namespace tfpriv {
namespace {

template <typename T>
struct WordOf {
  typedef std::make_unsigned_t<T> Type;
};
template <>
struct WordOf<bool> {
  typedef uint8_t Type;
};

// How many bits an element has: a bool has one.
template <typename T>
constexpr int Bits() {
  return std::is_same<T, bool>::value ? 1 : 8 * sizeof(T);
}

// Moves the bits at even places to the lower half, in order: five swaps of ever larger groups.
inline uint64_t CompressEven(uint64_t x) {
  x &= 0x5555555555555555;
  x = (x | (x >> 1)) & 0x3333333333333333;
  x = (x | (x >> 2)) & 0x0f0f0f0f0f0f0f0f;
  x = (x | (x >> 4)) & 0x00ff00ff00ff00ff;
  x = (x | (x >> 8)) & 0x0000ffff0000ffff;
  x = (x | (x >> 16)) & 0x00000000ffffffff;
  return x;
}

// Gathers bits start, start + stride, ... into the lowest places.
template <typename Word>
Word Gather(Word x, int bits, int start, int stride) {
  if (stride == 2) return static_cast<Word>(CompressEven(static_cast<uint64_t>(x) >> start));
  Word gathered = 0;
  int to = 0;
  for (int64_t from = start; from < bits; from += stride) {
    gathered |= static_cast<Word>(static_cast<Word>(x >> from) & 1) << to++;
  }
  return gathered;
}

template <typename Word>
Word Reverse(Word x, int bits) {
  uint64_t y = x;
  y = ((y >> 1) & 0x5555555555555555) | ((y & 0x5555555555555555) << 1);
  y = ((y >> 2) & 0x3333333333333333) | ((y & 0x3333333333333333) << 2);
  y = ((y >> 4) & 0x0f0f0f0f0f0f0f0f) | ((y & 0x0f0f0f0f0f0f0f0f) << 4);
  return static_cast<Word>(__builtin_bswap64(y) >> (64 - bits));
}

// Bit j of the xor of the indices of the set bits is the parity of the bits whose index has bit j.
template <typename Word>
Word XorIndices(Word x) {
  constexpr uint64_t kHasBit[6] = {0xaaaaaaaaaaaaaaaa, 0xcccccccccccccccc, 0xf0f0f0f0f0f0f0f0,
                                   0xff00ff00ff00ff00, 0xffff0000ffff0000, 0xffffffff00000000};
  Word indices = 0;
  for (int j = 0; j < 6; ++j) {
    const uint64_t bits = x & kHasBit[j];
    indices |= static_cast<Word>(__builtin_parityll(bits)) << j;
  }
  return indices;
}

Status CheckStride(int start, int stride) {
  if (stride < 1) return InvalidArgument("stride must be at least 1, and is ", stride);
  if (start < 0) return InvalidArgument("start must be at least 0, and is ", start);
  return OkStatus();
}

// An op that makes of each element one element.
template <typename T, typename Function>
void ForEach(OpKernelContext* context, Function function) {
  typedef typename WordOf<T>::Type Word;
  Tensor* out = nullptr;
  OP_REQUIRES_OK(context, context->allocate_output(0, context->input(0).shape(), &out));
  const auto* from = static_cast<const Word*>(context->input(0).data());
  auto* to = static_cast<Word*>(out->data());
  Parallel(context, out->NumElements(), 20, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) to[i] = function(from[i]);
  });
}

template <typename T>
class BitReverseOp : public OpKernel {
 public:
  explicit BitReverseOp(OpKernelConstruction* context) : OpKernel(context) {}
  void Compute(OpKernelContext* context) override {
    typedef typename WordOf<T>::Type Word;
    ForEach<T>(context, [](Word x) { return Reverse<Word>(x, Bits<T>()); });
  }
};

template <typename T>
class XorIndicesOp : public OpKernel {
 public:
  explicit XorIndicesOp(OpKernelConstruction* context) : OpKernel(context) {}
  void Compute(OpKernelContext* context) override {
    typedef typename WordOf<T>::Type Word;
    ForEach<T>(context, [](Word x) { return Bits<T>() == 1 ? Word{0} : XorIndices<Word>(x); });
  }
};

template <typename T>
class BitGatherOp : public OpKernel {
 public:
  explicit BitGatherOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("start", &start_));
    OP_REQUIRES_OK(context, context->GetAttr("stride", &stride_));
    OP_REQUIRES_OK(context, CheckStride(start_, stride_));
  }
  void Compute(OpKernelContext* context) override {
    typedef typename WordOf<T>::Type Word;
    const int start = start_, stride = stride_;
    ForEach<T>(context, [=](Word x) {
      return start >= Bits<T>() ? Word{0} : Gather<Word>(x, Bits<T>(), start, stride);
    });
  }

 private:
  int start_ = 0, stride_ = 1;
};

template <typename T>
class BitSplitAndGatherOp : public OpKernel {
 public:
  explicit BitSplitAndGatherOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("stride", &stride_));
    OP_REQUIRES_OK(context, CheckStride(0, stride_));
  }
  void Compute(OpKernelContext* context) override {
    typedef typename WordOf<T>::Type Word;
    TensorShape shape = context->input(0).shape();
    const int64_t total = shape.num_elements();
    OP_REQUIRES_OK(context, shape.InsertDimWithStatus(0, stride_));
    Tensor* out = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &out));
    const auto* from = static_cast<const Word*>(context->input(0).data());
    auto* to = static_cast<Word*>(out->data());
    Parallel(context, total, 20 * stride_, [&](int64_t first, int64_t last) {
      for (int start = 0; start < stride_; ++start) {
        for (int64_t i = first; i < last; ++i) {
          to[start * total + i] =
              start >= Bits<T>() ? Word{0} : Gather<Word>(from[i], Bits<T>(), start, stride_);
        }
      }
    });
  }

 private:
  int stride_ = 1;
};

REGISTER_OP("BitReverse")
    .Input("x: T")
    .Output("y: T")
    .Attr("T: {bool, int8, int16, int32, int64}")
    .SetShapeFn(tensorflow::shape_inference::UnchangedShape)
    .Doc("Turns the order of each element's bits around.");

REGISTER_OP("XorIndices")
    .Input("x: T")
    .Output("y: T")
    .Attr("T: {bool, int8, int16, int32, int64}")
    .SetShapeFn(tensorflow::shape_inference::UnchangedShape)
    .Doc("Returns the xor of the indices of each element's set bits; 0 where none is set.");

REGISTER_OP("BitGather")
    .Input("x: T")
    .Output("y: T")
    .Attr("T: {bool, int8, int16, int32, int64}")
    .Attr("start: int")
    .Attr("stride: int")
    .SetShapeFn(tensorflow::shape_inference::UnchangedShape)
    .Doc("Gathers bits start, start + stride, ... of each element into the lowest places.");

REGISTER_OP("BitSplitAndGather")
    .Input("x: T")
    .Output("y: T")
    .Attr("T: {bool, int8, int16, int32, int64}")
    .Attr("stride: int")
    .SetShapeFn([](InferenceContext* context) {
      int64_t stride;
      TF_RETURN_IF_ERROR(context->GetAttr("stride", &stride));
      TF_RETURN_IF_ERROR(CheckStride(0, stride));
      ShapeHandle shape;
      TF_RETURN_IF_ERROR(context->Concatenate(context->Vector(stride), context->input(0), &shape));
      context->set_output(0, shape);
      return OkStatus();
    })
    .Doc("Stacks BitGather with starts 0, 1, ..., stride - 1 along a new first axis.");

#define REGISTER_BITS(T)                                                                       \
  REGISTER_KERNEL_BUILDER(Name("BitReverse").Device(DEVICE_CPU).TypeConstraint<T>("T"),        \
                          BitReverseOp<T>);                                                    \
  REGISTER_KERNEL_BUILDER(Name("XorIndices").Device(DEVICE_CPU).TypeConstraint<T>("T"),        \
                          XorIndicesOp<T>);                                                    \
  REGISTER_KERNEL_BUILDER(Name("BitGather").Device(DEVICE_CPU).TypeConstraint<T>("T"),         \
                          BitGatherOp<T>);                                                     \
  REGISTER_KERNEL_BUILDER(Name("BitSplitAndGather").Device(DEVICE_CPU).TypeConstraint<T>("T"), \
                          BitSplitAndGatherOp<T>)
REGISTER_BITS(bool);
REGISTER_BITS(int8_t);
REGISTER_BITS(int16_t);
REGISTER_BITS(int32_t);
REGISTER_BITS(int64_t);
#undef REGISTER_BITS

}  // namespace
}  // namespace tfpriv
