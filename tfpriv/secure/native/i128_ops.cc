// Arithmetic modulo 2^128: an element is a pair of int64 along the last axis, the low word first.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <vector>

#include "ops.h"
#include "tensorflow/core/util/bcast.h"

namespace tfpriv {
namespace {

using tensorflow::BCast;

typedef __int128 int128;
typedef unsigned __int128 uint128;

constexpr int kBits = 128;
constexpr int64_t kCost = 10;  // cycles for an element, about

// A tensor's elements. They need not be aligned to 16 bytes, so they are copied in and out.
class Elements {
 public:
  explicit Elements(const Tensor& tensor) : words_(static_cast<char*>(tensor.data())) {}
  uint128 operator[](int64_t i) const {
    uint128 x;
    std::memcpy(&x, words_ + 16 * i, 16);
    return x;
  }
  void Set(int64_t i, uint128 x) const { std::memcpy(words_ + 16 * i, &x, 16); }

 private:
  char* words_;
};

// Reads the shape of a tensor's elements, which is its own without the last axis.
Status ElementShape(const Tensor& tensor, TensorShape* shape) {
  *shape = tensor.shape();
  if (shape->dims() == 0 || shape->dim_size(shape->dims() - 1) != 2) {
    return InvalidArgument("elements of 128 bits are pairs along the last axis, and the shape is ",
                           shape->DebugString());
  }
  shape->RemoveLastDims(1);
  return OkStatus();
}

Status AllocateElements(OpKernelContext* context, TensorShape shape, Tensor** out) {
  TF_RETURN_IF_ERROR(shape.AddDimWithStatus(2));
  return context->allocate_output(0, shape, out);
}

// Walks the places of a shape in order, and keeps the matching places in other arrays, which
// advance by a step of their own for each axis.
template <int kArrays>
class Walk {
 public:
  Walk(std::vector<int64_t> sizes, std::vector<int64_t> const (&steps)[kArrays], int64_t place)
      : sizes_(std::move(sizes)), index_(sizes_.size()) {
    for (int array = 0; array < kArrays; ++array) steps_[array] = steps[array];
    for (int axis = sizes_.size() - 1; axis >= 0; --axis) {
      index_[axis] = place % sizes_[axis];
      place /= sizes_[axis];
      for (int array = 0; array < kArrays; ++array) {
        at_[array] += index_[axis] * steps_[array][axis];
      }
    }
  }
  int64_t at(int array) const { return at_[array]; }
  void Next() {
    for (int axis = sizes_.size() - 1; axis >= 0; --axis) {
      const bool wrapped = ++index_[axis] == sizes_[axis];
      const int64_t moved = wrapped ? 1 - sizes_[axis] : 1;
      for (int array = 0; array < kArrays; ++array) at_[array] += moved * steps_[array][axis];
      if (!wrapped) return;
      index_[axis] = 0;
    }
  }

 private:
  std::vector<int64_t> sizes_, index_, steps_[kArrays];
  int64_t at_[kArrays] = {};
};

// How two shapes broadcast, as in numpy.
class Broadcast {
 public:
  Status Set(const TensorShape& x, const TensorShape& y) {
    const BCast bcast(BCast::FromShape(x), BCast::FromShape(y));
    if (!bcast.IsValid()) {
      return InvalidArgument("shapes ", x.DebugString(), " and ", y.DebugString(),
                             " do not broadcast");
    }
    out_ = BCast::ToShape(bcast.output_shape());
    sizes_.assign(bcast.result_shape().begin(), bcast.result_shape().end());
    SetSteps(bcast.x_reshape(), &steps_[0]);
    SetSteps(bcast.y_reshape(), &steps_[1]);
    return OkStatus();
  }
  const TensorShape& out() const { return out_; }

  // Calls function(place in out, in x, in y) for the places [first, last) of out.
  template <typename Function>
  void ForEach(int64_t first, int64_t last, Function function) const {
    if (sizes_.size() <= 1 && first < last) {  // the same shape, or a single number
      const int64_t x = sizes_.empty() ? 0 : steps_[0][0], y = sizes_.empty() ? 0 : steps_[1][0];
      for (int64_t i = first; i < last; ++i) function(i, i * x, i * y);
      return;
    }
    Walk<2> walk(sizes_, steps_, first);
    for (int64_t i = first; i < last; ++i, walk.Next()) function(i, walk.at(0), walk.at(1));
  }

 private:
  static void SetSteps(const BCast::Vec& sizes, std::vector<int64_t>* steps) {
    steps->resize(sizes.size());
    int64_t step = 1;
    for (int axis = sizes.size() - 1; axis >= 0; --axis) {
      (*steps)[axis] = sizes[axis] == 1 ? 0 : step;
      step *= sizes[axis];
    }
  }

  TensorShape out_;
  std::vector<int64_t> sizes_, steps_[2];
};

// Ops of one or two elements.

struct Add {
  uint128 operator()(uint128 x, uint128 y) const { return x + y; }
};
struct Sub {
  uint128 operator()(uint128 x, uint128 y) const { return x - y; }
};
struct Mul {
  uint128 operator()(uint128 x, uint128 y) const { return x * y; }
};

template <typename Function>
class BinaryOp : public OpKernel {
 public:
  explicit BinaryOp(OpKernelConstruction* context) : OpKernel(context) {}
  void Compute(OpKernelContext* context) override {
    TensorShape shapes[2];
    Broadcast broadcast;
    Tensor* out = nullptr;
    for (int i : {0, 1}) OP_REQUIRES_OK(context, ElementShape(context->input(i), &shapes[i]));
    OP_REQUIRES_OK(context, broadcast.Set(shapes[0], shapes[1]));
    OP_REQUIRES_OK(context, AllocateElements(context, broadcast.out(), &out));
    const Elements x(context->input(0)), y(context->input(1)), to(*out);
    Parallel(context, broadcast.out().num_elements(), kCost, [&](int64_t first, int64_t last) {
      broadcast.ForEach(
          first, last, [&](int64_t i, int64_t j, int64_t k) { to.Set(i, Function()(x[j], y[k])); });
    });
  }
};

class EqualOp : public OpKernel {
 public:
  explicit EqualOp(OpKernelConstruction* context) : OpKernel(context) {}
  void Compute(OpKernelContext* context) override {
    TensorShape shapes[2];
    Broadcast broadcast;
    Tensor* out = nullptr;
    for (int i : {0, 1}) OP_REQUIRES_OK(context, ElementShape(context->input(i), &shapes[i]));
    OP_REQUIRES_OK(context, broadcast.Set(shapes[0], shapes[1]));
    OP_REQUIRES_OK(context, context->allocate_output(0, broadcast.out(), &out));
    const Elements x(context->input(0)), y(context->input(1));
    bool* to = out->flat<bool>().data();
    Parallel(context, broadcast.out().num_elements(), kCost, [&](int64_t first, int64_t last) {
      broadcast.ForEach(first, last,
                        [&](int64_t i, int64_t j, int64_t k) { to[i] = x[j] == y[k]; });
    });
  }
};

// The same pair of words in the order of a mask's bits.
constexpr uint128 Twice(uint64_t half) { return static_cast<uint128>(half) << 64 | half; }

uint128 Reverse(uint128 x) {
  x = ((x >> 1) & Twice(0x5555555555555555)) | ((x & Twice(0x5555555555555555)) << 1);
  x = ((x >> 2) & Twice(0x3333333333333333)) | ((x & Twice(0x3333333333333333)) << 2);
  x = ((x >> 4) & Twice(0x0f0f0f0f0f0f0f0f)) | ((x & Twice(0x0f0f0f0f0f0f0f0f)) << 4);
  return static_cast<uint128>(__builtin_bswap64(static_cast<uint64_t>(x))) << 64 |
         __builtin_bswap64(static_cast<uint64_t>(x >> 64));
}

// Moves the bits at even places to the lower half, in order: six swaps of ever larger groups.
uint128 CompressEven(uint128 x) {
  x &= Twice(0x5555555555555555);
  x = (x | (x >> 1)) & Twice(0x3333333333333333);
  x = (x | (x >> 2)) & Twice(0x0f0f0f0f0f0f0f0f);
  x = (x | (x >> 4)) & Twice(0x00ff00ff00ff00ff);
  x = (x | (x >> 8)) & Twice(0x0000ffff0000ffff);
  x = (x | (x >> 16)) & Twice(0x00000000ffffffff);
  return static_cast<uint64_t>(x | (x >> 32));
}

// Gathers bits start, start + stride, ... into the lowest places.
uint128 Gather(uint128 x, int start, int stride) {
  if (start >= kBits) return 0;
  if (stride == 2) return CompressEven(x >> start);
  uint128 gathered = 0;
  int to = 0;
  for (int64_t from = start; from < kBits; from += stride) gathered |= ((x >> from) & 1) << to++;
  return gathered;
}

// Bit j of the xor of the indices of the set bits is the parity of the bits whose index has bit j.
uint128 XorIndices(uint128 x) {
  constexpr uint64_t kHasBit[6] = {0xaaaaaaaaaaaaaaaa, 0xcccccccccccccccc, 0xf0f0f0f0f0f0f0f0,
                                   0xff00ff00ff00ff00, 0xffff0000ffff0000, 0xffffffff00000000};
  const uint64_t high = static_cast<uint64_t>(x >> 64);
  const uint64_t both = static_cast<uint64_t>(x) ^ high;
  uint64_t indices = static_cast<uint64_t>(__builtin_parityll(high)) << 6;
  for (int j = 0; j < 6; ++j) {
    indices |= static_cast<uint64_t>(__builtin_parityll(both & kHasBit[j])) << j;
  }
  return indices;
}

struct Unary {
  explicit Unary(OpKernelConstruction*) {}
};
struct Negate : Unary {
  using Unary::Unary;
  uint128 operator()(uint128 x) const { return -x; }
};
struct Abs : Unary {
  using Unary::Unary;
  uint128 operator()(uint128 x) const { return static_cast<int128>(x) < 0 ? -x : x; }
};
struct BitReverse : Unary {
  using Unary::Unary;
  uint128 operator()(uint128 x) const { return Reverse(x); }
};
struct BitXorIndices : Unary {
  using Unary::Unary;
  uint128 operator()(uint128 x) const { return XorIndices(x); }
};

Status CheckAtLeast(const char* name, int least, int value) {
  if (value >= least) return OkStatus();
  return InvalidArgument(name, " must be at least ", least, ", and is ", value);
}

// A number that an op is made with.
int ReadAttribute(OpKernelConstruction* context, const char* name, int least) {
  int value = least;
  Status status = context->GetAttr(name, &value);
  if (status.ok()) status = CheckAtLeast(name, least, value);
  if (!status.ok()) context->CtxFailure(status);
  return value;
}

struct BitGather {
  explicit BitGather(OpKernelConstruction* context)
      : start(ReadAttribute(context, "start", 0)), stride(ReadAttribute(context, "stride", 1)) {}
  uint128 operator()(uint128 x) const { return Gather(x, start, stride); }
  const int start, stride;
};

// Shifts by 128 places and more leave what repeated shifts by one would.
struct Shift {
  explicit Shift(OpKernelConstruction* context) : places(ReadAttribute(context, "shmt", 0)) {}
  const int places;
};
struct LeftShift : Shift {
  using Shift::Shift;
  uint128 operator()(uint128 x) const { return places < kBits ? x << places : 0; }
};
struct LogicRightShift : Shift {
  using Shift::Shift;
  uint128 operator()(uint128 x) const { return places < kBits ? x >> places : 0; }
};
struct RightShift : Shift {
  using Shift::Shift;
  uint128 operator()(uint128 x) const {
    return static_cast<uint128>(static_cast<int128>(x) >> std::min(places, kBits - 1));
  }
};

template <typename Function>
class UnaryOp : public OpKernel {
 public:
  explicit UnaryOp(OpKernelConstruction* context) : OpKernel(context), function_(context) {}
  void Compute(OpKernelContext* context) override {
    TensorShape shape;
    Tensor* out = nullptr;
    OP_REQUIRES_OK(context, ElementShape(context->input(0), &shape));
    OP_REQUIRES_OK(context, AllocateElements(context, shape, &out));
    const Elements x(context->input(0)), to(*out);
    Parallel(context, shape.num_elements(), 2 * kCost, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) to.Set(i, function_(x[i]));
    });
  }

 private:
  const Function function_;
};

class BitSplitAndGatherOp : public OpKernel {
 public:
  explicit BitSplitAndGatherOp(OpKernelConstruction* context)
      : OpKernel(context), stride_(ReadAttribute(context, "stride", 1)) {}
  void Compute(OpKernelContext* context) override {
    TensorShape shape;
    Tensor* out = nullptr;
    OP_REQUIRES_OK(context, ElementShape(context->input(0), &shape));
    const int64_t total = shape.num_elements();
    OP_REQUIRES_OK(context, shape.InsertDimWithStatus(0, stride_));
    OP_REQUIRES_OK(context, AllocateElements(context, shape, &out));
    const Elements x(context->input(0)), to(*out);
    Parallel(context, total, 2 * kCost * stride_, [&](int64_t first, int64_t last) {
      for (int start = 0; start < stride_; ++start) {
        for (int64_t i = first; i < last; ++i) {
          to.Set(start * total + i, Gather(x[i], start, stride_));
        }
      }
    });
  }

 private:
  const int stride_;
};

// Products and sums.

class MatMulOp : public OpKernel {
 public:
  explicit MatMulOp(OpKernelConstruction* context) : OpKernel(context) {}
  void Compute(OpKernelContext* context) override {
    TensorShape shapes[2];
    for (int i : {0, 1}) {
      OP_REQUIRES_OK(context, ElementShape(context->input(i), &shapes[i]));
      OP_REQUIRES(context, shapes[i].dims() >= 2,
                  InvalidArgument("matrices have rank 2 or more, and this one has shape ",
                                  shapes[i].DebugString()));
    }
    const int64_t rows = shapes[0].dim_size(shapes[0].dims() - 2);
    const int64_t inner = shapes[0].dim_size(shapes[0].dims() - 1);
    const int64_t columns = shapes[1].dim_size(shapes[1].dims() - 1);
    OP_REQUIRES(context, shapes[1].dim_size(shapes[1].dims() - 2) == inner,
                InvalidArgument("matrices of shapes ", shapes[0].DebugString(), " and ",
                                shapes[1].DebugString(), " have no product"));
    Broadcast batches;
    Tensor* out = nullptr;
    for (TensorShape& shape : shapes) shape.RemoveLastDims(2);
    OP_REQUIRES_OK(context, batches.Set(shapes[0], shapes[1]));
    TensorShape out_shape = batches.out();
    OP_REQUIRES_OK(context, out_shape.AddDimWithStatus(rows));
    OP_REQUIRES_OK(context, out_shape.AddDimWithStatus(columns));
    OP_REQUIRES_OK(context, AllocateElements(context, out_shape, &out));
    if (out_shape.num_elements() == 0) return;

    // The work is cut into pieces of one row and up to kWidth columns of the result.
    constexpr int64_t kWidth = 32;
    const int64_t pieces_in_row = (columns + kWidth - 1) / kWidth;
    const int64_t pieces_in_batch = rows * pieces_in_row;
    const Elements x(context->input(0)), y(context->input(1)), to(*out);
    const auto multiply = [&](int64_t batch, int64_t x_batch, int64_t y_batch, int64_t piece) {
      const int64_t row = piece / pieces_in_row;
      const int64_t column = piece % pieces_in_row * kWidth;
      const int64_t width = std::min(kWidth, columns - column);
      uint128 sums[kWidth] = {};
      for (int64_t k = 0; k < inner; ++k) {
        const uint128 factor = x[(x_batch * rows + row) * inner + k];
        const int64_t from = (y_batch * inner + k) * columns + column;
        for (int64_t j = 0; j < width; ++j) sums[j] += factor * y[from + j];
      }
      for (int64_t j = 0; j < width; ++j) {
        to.Set((batch * rows + row) * columns + column + j, sums[j]);
      }
    };
    const int64_t cost = 4 * inner * std::min(columns, kWidth) + kCost;
    Parallel(context, batches.out().num_elements() * pieces_in_batch, cost,
             [&](int64_t first, int64_t last) {
               const int64_t last_batch = (last + pieces_in_batch - 1) / pieces_in_batch;
               batches.ForEach(first / pieces_in_batch, last_batch,
                               [&](int64_t batch, int64_t x_batch, int64_t y_batch) {
                                 const int64_t start = batch * pieces_in_batch;
                                 const int64_t end = std::min(last, start + pieces_in_batch);
                                 for (int64_t i = std::max(first, start); i < end; ++i) {
                                   multiply(batch, x_batch, y_batch, i - start);
                                 }
                               });
             });
  }
};

class ReduceSumOp : public OpKernel {
 public:
  explicit ReduceSumOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("axis", &axes_));
    OP_REQUIRES_OK(context, context->GetAttr("keepdims", &keep_dims_));
  }
  void Compute(OpKernelContext* context) override {
    TensorShape shape;
    OP_REQUIRES_OK(context, ElementShape(context->input(0), &shape));
    std::vector<bool> summed(shape.dims());
    for (const int axis : axes_) {
      OP_REQUIRES(context, axis >= 0 && axis < shape.dims(),
                  InvalidArgument("axis must be in [0, ", shape.dims(), "), and is ", axis));
      summed[axis] = true;
    }
    // Sizes and steps of the axes that stay (0) and of those that are summed over (1).
    std::vector<int64_t> sizes[2], steps[2];
    TensorShape out_shape;
    int64_t step = shape.num_elements();
    for (int axis = 0; axis < shape.dims(); ++axis) {
      const int64_t size = shape.dim_size(axis);
      if (size > 0) step /= size;
      sizes[summed[axis]].push_back(size);
      steps[summed[axis]].push_back(step);
      if (!summed[axis]) out_shape.AddDim(size);
      if (summed[axis] && keep_dims_) out_shape.AddDim(1);
    }
    Tensor* out = nullptr;
    OP_REQUIRES_OK(context, AllocateElements(context, out_shape, &out));
    const int64_t total = out_shape.num_elements();
    if (total == 0) return;

    // The places, from that of a sum's first term, of all its terms.
    std::vector<int64_t> terms(shape.num_elements() / total);
    if (!terms.empty()) {
      Walk<1> walk(sizes[1], {steps[1]}, 0);
      for (int64_t& term : terms) {
        term = walk.at(0);
        walk.Next();
      }
    }
    const Elements x(context->input(0)), to(*out);
    Parallel(context, total, kCost + 2 * terms.size(), [&](int64_t first, int64_t last) {
      Walk<1> walk(sizes[0], {steps[0]}, first);
      for (int64_t i = first; i < last; ++i, walk.Next()) {
        uint128 sum = 0;
        for (const int64_t term : terms) sum += x[walk.at(0) + term];
        to.Set(i, sum);
      }
    });
  }

 private:
  std::vector<int> axes_;
  bool keep_dims_ = false;
};

// Conversions.

// Returns value * scale, exact and then cut off at the point, or false if that does not fit.
bool Encode(double value, int64_t scale, uint128* element) {
  if (!std::isfinite(value)) return false;
  int exponent;
  const auto mantissa = static_cast<int64_t>(std::ldexp(std::frexp(value, &exponent), 53));
  exponent -= 53;
  // Of the product's 116 bits, `size` takes at most 115 without a sign.
  const uint128 size = static_cast<uint128>(std::abs(mantissa)) * static_cast<uint128>(scale);
  uint128 shifted = 0;
  if (exponent <= 0) {
    if (exponent > -kBits) shifted = size >> -exponent;
  } else if (size != 0) {
    if (exponent >= kBits || (size << exponent) >> exponent != size) return false;
    shifted = size << exponent;
  }
  const uint128 limit = uint128{1} << (kBits - 1);
  if (shifted > limit || (shifted == limit && mantissa > 0)) return false;
  *element = mantissa < 0 ? -shifted : shifted;
  return true;
}

Status ReadScale(OpKernelConstruction* context, int64_t* scale) {
  TF_RETURN_IF_ERROR(context->GetAttr("scale", scale));
  if (*scale >= 1) return OkStatus();
  return InvalidArgument("scale must be at least 1, and is ", *scale);
}

class ToI128Op : public OpKernel {
 public:
  explicit ToI128Op(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadScale(context, &scale_));
  }
  void Compute(OpKernelContext* context) override {
    Tensor* out = nullptr;
    OP_REQUIRES_OK(context, AllocateElements(context, context->input(0).shape(), &out));
    const double* x = context->input(0).flat<double>().data();
    const Elements to(*out);
    std::atomic<int64_t> misfit{-1};
    Parallel(context, context->input(0).NumElements(), 3 * kCost, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        uint128 element = 0;
        if (!Encode(x[i], scale_, &element)) misfit = i;
        to.Set(i, element);
      }
    });
    OP_REQUIRES(
        context, misfit < 0,
        InvalidArgument(x[misfit], " times ", scale_, " is no number of 128 bits with a sign"));
  }

 private:
  int64_t scale_ = 1;
};

class FromI128Op : public OpKernel {
 public:
  explicit FromI128Op(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadScale(context, &scale_));
  }
  void Compute(OpKernelContext* context) override {
    TensorShape shape;
    Tensor* out = nullptr;
    OP_REQUIRES_OK(context, ElementShape(context->input(0), &shape));
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &out));
    const Elements x(context->input(0));
    double* to = out->flat<double>().data();
    Parallel(context, shape.num_elements(), kCost, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        to[i] = static_cast<double>(static_cast<int128>(x[i])) / static_cast<double>(scale_);
      }
    });
  }

 private:
  int64_t scale_ = 1;
};

// Shapes.

// Reads the shape of an input's elements, which is its own without the last axis.
Status ElementShape(InferenceContext* context, int input, ShapeHandle* shape) {
  ShapeHandle whole;
  DimensionHandle words;
  TF_RETURN_IF_ERROR(context->WithRankAtLeast(context->input(input), 1, &whole));
  TF_RETURN_IF_ERROR(context->WithValue(context->Dim(whole, -1), 2, &words));
  return context->Subshape(whole, 0, -1, shape);
}

Status SetElementShape(InferenceContext* context, ShapeHandle shape) {
  TF_RETURN_IF_ERROR(context->Concatenate(shape, context->Vector(2), &shape));
  context->set_output(0, shape);
  return OkStatus();
}

Status UnaryShape(InferenceContext* context) {
  ShapeHandle shape;
  TF_RETURN_IF_ERROR(ElementShape(context, 0, &shape));
  return SetElementShape(context, shape);
}

Status EqualShape(InferenceContext* context) {
  ShapeHandle x, y, out;
  TF_RETURN_IF_ERROR(ElementShape(context, 0, &x));
  TF_RETURN_IF_ERROR(ElementShape(context, 1, &y));
  TF_RETURN_IF_ERROR(tensorflow::shape_inference::BroadcastBinaryOpOutputShapeFnHelper(
      context, x, y, /*incompatible_shape_error=*/true, &out));
  context->set_output(0, out);
  return OkStatus();
}

Status BinaryShape(InferenceContext* context) {
  TF_RETURN_IF_ERROR(EqualShape(context));
  return SetElementShape(context, context->output(0));
}

Status MatMulShape(InferenceContext* context) {
  ShapeHandle x, y, x_batch, y_batch, out;
  DimensionHandle inner;
  TF_RETURN_IF_ERROR(ElementShape(context, 0, &x));
  TF_RETURN_IF_ERROR(ElementShape(context, 1, &y));
  TF_RETURN_IF_ERROR(context->WithRankAtLeast(x, 2, &x));
  TF_RETURN_IF_ERROR(context->WithRankAtLeast(y, 2, &y));
  TF_RETURN_IF_ERROR(context->Merge(context->Dim(x, -1), context->Dim(y, -2), &inner));
  TF_RETURN_IF_ERROR(context->Subshape(x, 0, -2, &x_batch));
  TF_RETURN_IF_ERROR(context->Subshape(y, 0, -2, &y_batch));
  TF_RETURN_IF_ERROR(tensorflow::shape_inference::BroadcastBinaryOpOutputShapeFnHelper(
      context, x_batch, y_batch, /*incompatible_shape_error=*/true, &out));
  TF_RETURN_IF_ERROR(
      context->Concatenate(out, context->Matrix(context->Dim(x, -2), context->Dim(y, -1)), &out));
  return SetElementShape(context, out);
}

Status ReduceSumShape(InferenceContext* context) {
  std::vector<int> axes;
  bool keep_dims;
  ShapeHandle shape;
  TF_RETURN_IF_ERROR(context->GetAttr("axis", &axes));
  TF_RETURN_IF_ERROR(context->GetAttr("keepdims", &keep_dims));
  TF_RETURN_IF_ERROR(ElementShape(context, 0, &shape));
  if (!context->RankKnown(shape)) return SetElementShape(context, shape);
  std::vector<DimensionHandle> sizes;
  for (int axis = 0; axis < context->Rank(shape); ++axis) {
    if (std::find(axes.begin(), axes.end(), axis) == axes.end()) {
      sizes.push_back(context->Dim(shape, axis));
    } else if (keep_dims) {
      sizes.push_back(context->MakeDim(1));
    }
  }
  return SetElementShape(context, context->MakeShape(sizes));
}

Status BitSplitAndGatherShape(InferenceContext* context) {
  int stride;
  ShapeHandle shape;
  TF_RETURN_IF_ERROR(context->GetAttr("stride", &stride));
  TF_RETURN_IF_ERROR(CheckAtLeast("stride", 1, stride));
  TF_RETURN_IF_ERROR(ElementShape(context, 0, &shape));
  TF_RETURN_IF_ERROR(context->Concatenate(context->Vector(stride), shape, &shape));
  return SetElementShape(context, shape);
}

Status ToI128Shape(InferenceContext* context) {
  return SetElementShape(context, context->input(0));
}

Status FromI128Shape(InferenceContext* context) {
  ShapeHandle shape;
  TF_RETURN_IF_ERROR(ElementShape(context, 0, &shape));
  context->set_output(0, shape);
  return OkStatus();
}

REGISTER_OP("ToI128")
    .Input("x: double")
    .Output("y: int64")
    .Attr("scale: int")
    .SetShapeFn(ToI128Shape)
    .Doc("Returns x * scale, cut off at the point; an error if that takes more than 128 bits.");

REGISTER_OP("FromI128")
    .Input("x: int64")
    .Output("y: double")
    .Attr("scale: int")
    .SetShapeFn(FromI128Shape)
    .Doc("Returns x / scale.");

#define REGISTER_BINARY(name, doc) \
  REGISTER_OP(name)                \
      .Input("x: int64")           \
      .Input("y: int64")           \
      .Output("z: int64")          \
      .SetShapeFn(BinaryShape)     \
      .Doc(doc)
REGISTER_BINARY("I128Add", "Returns x + y modulo 2^128; shapes broadcast.");
REGISTER_BINARY("I128Sub", "Returns x - y modulo 2^128; shapes broadcast.");
REGISTER_BINARY("I128Mul", "Returns x * y modulo 2^128; shapes broadcast.");
#undef REGISTER_BINARY

REGISTER_OP("I128Equal")
    .Input("x: int64")
    .Input("y: int64")
    .Output("z: bool")
    .SetShapeFn(EqualShape)
    .Doc("Returns whether x is y; shapes broadcast.");

REGISTER_OP("I128MatMul")
    .Input("x: int64")
    .Input("y: int64")
    .Output("z: int64")
    .SetShapeFn(MatMulShape)
    .Doc("Returns the matrix products modulo 2^128; the axes before the last two broadcast.");

REGISTER_OP("I128ReduceSum")
    .Input("x: int64")
    .Output("y: int64")
    .Attr("axis: list(int)")
    .Attr("keepdims: bool = false")
    .SetShapeFn(ReduceSumShape)
    .Doc("Sums over axes modulo 2^128.");

#define REGISTER_UNARY(name, doc) \
  REGISTER_OP(name).Input("x: int64").Output("y: int64").SetShapeFn(UnaryShape).Doc(doc)
REGISTER_UNARY("I128Negate", "Returns -x modulo 2^128.");
REGISTER_UNARY("I128Abs", "Returns x without its sign; the lowest value stays as it is.");
REGISTER_UNARY("I128BitReverse", "Turns the order of each element's bits around.");
REGISTER_UNARY("I128XorIndices", "Returns the xor of the indices of each element's set bits.");
REGISTER_UNARY("I128LeftShift", "Shifts to the left by shmt places.").Attr("shmt: int");
REGISTER_UNARY("I128RightShift", "Shifts to the right, and keeps the sign.").Attr("shmt: int");
REGISTER_UNARY("I128LogicRightShift", "Shifts zeros in from the left.").Attr("shmt: int");
REGISTER_UNARY("I128BitGather",
               "Gathers bits start, start + stride, ... of each element into the lowest places.")
    .Attr("start: int")
    .Attr("stride: int");
#undef REGISTER_UNARY

REGISTER_OP("I128BitSplitAndGather")
    .Input("x: int64")
    .Output("y: int64")
    .Attr("stride: int")
    .SetShapeFn(BitSplitAndGatherShape)
    .Doc("Stacks I128BitGather with starts 0, 1, ..., stride - 1 along a new first axis.");

REGISTER_KERNEL_BUILDER(Name("ToI128").Device(DEVICE_CPU), ToI128Op);
REGISTER_KERNEL_BUILDER(Name("FromI128").Device(DEVICE_CPU), FromI128Op);
REGISTER_KERNEL_BUILDER(Name("I128Add").Device(DEVICE_CPU), BinaryOp<Add>);
REGISTER_KERNEL_BUILDER(Name("I128Sub").Device(DEVICE_CPU), BinaryOp<Sub>);
REGISTER_KERNEL_BUILDER(Name("I128Mul").Device(DEVICE_CPU), BinaryOp<Mul>);
REGISTER_KERNEL_BUILDER(Name("I128Equal").Device(DEVICE_CPU), EqualOp);
REGISTER_KERNEL_BUILDER(Name("I128MatMul").Device(DEVICE_CPU), MatMulOp);
REGISTER_KERNEL_BUILDER(Name("I128ReduceSum").Device(DEVICE_CPU), ReduceSumOp);
REGISTER_KERNEL_BUILDER(Name("I128Negate").Device(DEVICE_CPU), UnaryOp<Negate>);
REGISTER_KERNEL_BUILDER(Name("I128Abs").Device(DEVICE_CPU), UnaryOp<Abs>);
REGISTER_KERNEL_BUILDER(Name("I128BitReverse").Device(DEVICE_CPU), UnaryOp<BitReverse>);
REGISTER_KERNEL_BUILDER(Name("I128XorIndices").Device(DEVICE_CPU), UnaryOp<BitXorIndices>);
REGISTER_KERNEL_BUILDER(Name("I128LeftShift").Device(DEVICE_CPU), UnaryOp<LeftShift>);
REGISTER_KERNEL_BUILDER(Name("I128RightShift").Device(DEVICE_CPU), UnaryOp<RightShift>);
REGISTER_KERNEL_BUILDER(Name("I128LogicRightShift").Device(DEVICE_CPU), UnaryOp<LogicRightShift>);
REGISTER_KERNEL_BUILDER(Name("I128BitGather").Device(DEVICE_CPU), UnaryOp<BitGather>);
REGISTER_KERNEL_BUILDER(Name("I128BitSplitAndGather").Device(DEVICE_CPU), BitSplitAndGatherOp);

}  // namespace
}  // namespace tfpriv
