// Seeds from the operating system, and uniform integers from ChaCha20 streams.

#include <sys/random.h>

#include <atomic>
#include <cerrno>
#include <limits>
#include <type_traits>

#include "ops.h"

namespace tfpriv {
namespace {

using tensorflow::errors::Internal;

typedef unsigned __int128 uint128;

std::atomic<int64_t> seeds_drawn{0};

Status DrawSeed(void* key) {
  char* to = static_cast<char*>(key);
  size_t missing = 32;
  while (missing > 0) {
    const ssize_t got = getrandom(to, missing, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return Internal("getrandom(2) gave no random bytes: ", std::strerror(errno));
    to += got;
    missing -= got;
  }
  ++seeds_drawn;
  return OkStatus();
}

// libsodium's nonce for randombytes_buf_deterministic, so that a seed gives the numbers that it
// has always given in tf-encrypted.
constexpr uint32_t kMainNonce[3] = {0x7362694c, 0x7569646f, 0x4752446d};
// The last word of the nonces for the candidates that follow a rejected one; the first two are the
// number of the element.
constexpr uint32_t kRetryNonce = 0x79727472;

// A range of integers [low, low + size), or all of Word's values where size is 0.
template <typename Word>
struct Range {
  Word low;
  Word size;
};

// Draws uniform integers. Drawing is exact: a word is taken modulo the size only if it lies below
// the largest multiple of the size, and is drawn anew otherwise. Each element has its own place in
// the streams, so any thread can draw any of them.
//
// Word is the unsigned type of the elements, and Drawn the type of the words that are drawn: short
// elements take 32 bits, so that few words are rejected.
template <typename Word, typename Drawn>
class Sampler {
 public:
  Sampler(const Stream& stream, Range<Word> range) : main_(stream), range_(range) {
    std::memcpy(main_.nonce, kMainNonce, sizeof(kMainNonce));
  }

  void Draw(int64_t first, int64_t last, Word* out) const {
    // A power of two divides the number of words: the low bits are uniform.
    if ((range_.size & (range_.size - 1)) == 0) {
      ReadStream(main_, first * sizeof(Word), (last - first) * sizeof(Word), out + first);
      if (range_.size == 0) return;
      const Word mask = range_.size - 1;
      for (int64_t i = first; i < last; ++i) out[i] = range_.low + (out[i] & mask);
      return;
    }
    constexpr int64_t kChunk = 4096 / sizeof(Drawn);
    Drawn words[kChunk];
    const Drawn size = range_.size;
    const Drawn rejected = static_cast<Drawn>(-size) % size;  // this many words at the top
    const Drawn limit = static_cast<Drawn>(-1) - rejected;
    for (int64_t start = first; start < last; start += kChunk) {
      const int64_t count = std::min(kChunk, last - start);
      ReadStream(main_, start * sizeof(Drawn), count * sizeof(Drawn), words);
      for (int64_t i = 0; i < count; ++i) {
        const Drawn word = words[i] <= limit ? words[i] : DrawAnew(start + i, limit);
        out[start + i] = range_.low + static_cast<Word>(word % size);
      }
    }
  }

 private:
  Drawn DrawAnew(int64_t element, Drawn limit) const {
    Stream retry = main_;
    retry.nonce[0] = static_cast<uint32_t>(element);
    retry.nonce[1] = static_cast<uint32_t>(element >> 32);
    retry.nonce[2] = kRetryNonce;
    for (int64_t attempt = 0;; ++attempt) {
      Drawn word;
      ReadStream(retry, attempt * sizeof(Drawn), sizeof(Drawn), &word);
      if (word <= limit) return word;
    }
  }

  Stream main_;
  Range<Word> range_;
};

template <typename T>
struct WordOf {
  typedef std::make_unsigned_t<T> Type;
  typedef std::conditional_t<(sizeof(T) < 4), uint32_t, Type> Drawn;
};
template <>
struct WordOf<bool> {
  typedef uint8_t Type;
  typedef uint32_t Drawn;
};

// Reads the bounds of a range, [minval, maxval). The pair (lowest, highest) of the type means the
// whole ring, the highest value with it: callers who mask ring elements write it so, and a mask
// that misses a value would hide less than it should.
template <typename T>
Status ReadRange(const Tensor& minval, const Tensor& maxval,
                 Range<typename WordOf<T>::Type>* range) {
  typedef typename WordOf<T>::Type Word;
  if (minval.NumElements() != 1 || maxval.NumElements() != 1) {
    return InvalidArgument("minval and maxval are single numbers, and have shapes ",
                           minval.shape().DebugString(), " and ", maxval.shape().DebugString());
  }
  const T low = minval.flat<T>()(0);
  const T high = maxval.flat<T>()(0);
  range->low = static_cast<Word>(low);
  if (low == std::numeric_limits<T>::min() && high == std::numeric_limits<T>::max()) {
    range->size = std::is_same<T, bool>::value ? 2 : 0;
    return OkStatus();
  }
  if (low >= high) {
    return InvalidArgument("minval must be below maxval, and is ", int64_t{low}, " with maxval ",
                           int64_t{high});
  }
  range->size = static_cast<Word>(high) - static_cast<Word>(low);
  return OkStatus();
}

Status DrawI128(OpKernelContext* context, const Stream& stream, const Tensor& shape,
                const Tensor& minval, const Tensor& maxval) {
  if (minval.NumElements() != 2 || maxval.NumElements() != 2) {
    return InvalidArgument(
        "minval and maxval of 128 bits are two numbers each, the low word first");
  }
  typedef __int128 int128;
  int128 low, high;
  std::memcpy(&low, minval.data(), 16);
  std::memcpy(&high, maxval.data(), 16);
  const int128 lowest = static_cast<int128>(uint128{1} << 127);
  Range<uint128> range{static_cast<uint128>(low), 0};
  if (!(low == lowest && high == static_cast<int128>(~(uint128{1} << 127)))) {
    if (low >= high) return InvalidArgument("minval must be below maxval");
    range.size = static_cast<uint128>(high) - static_cast<uint128>(low);
  }
  TensorShape out_shape;
  TF_RETURN_IF_ERROR(ReadShape(shape, &out_shape));
  const int64_t total = out_shape.num_elements();
  TF_RETURN_IF_ERROR(out_shape.AddDimWithStatus(2));
  Tensor* out = nullptr;
  TF_RETURN_IF_ERROR(context->allocate_output(0, out_shape, &out));
  const Sampler<uint128, uint128> sampler(stream, range);
  auto* to = static_cast<uint128*>(out->data());
  Parallel(context, total, 40, [&](int64_t first, int64_t last) { sampler.Draw(first, last, to); });
  return OkStatus();
}

template <typename T>
Status DrawUniform(OpKernelContext* context, const Stream& stream, const Tensor& shape,
                   const Tensor& minval, const Tensor& maxval) {
  typedef typename WordOf<T>::Type Word;
  Range<Word> range = {};
  TF_RETURN_IF_ERROR(ReadRange<T>(minval, maxval, &range));
  TensorShape out_shape;
  TF_RETURN_IF_ERROR(ReadShape(shape, &out_shape));
  Tensor* out = nullptr;
  TF_RETURN_IF_ERROR(context->allocate_output(0, out_shape, &out));
  const Sampler<Word, typename WordOf<T>::Drawn> sampler(stream, range);
  auto* to = static_cast<Word*>(out->data());
  Parallel(context, out_shape.num_elements(), 10,
           [&](int64_t first, int64_t last) { sampler.Draw(first, last, to); });
  return OkStatus();
}

class SecureSeedOp : public OpKernel {
 public:
  explicit SecureSeedOp(OpKernelConstruction* context) : OpKernel(context) {}
  void Compute(OpKernelContext* context) override {
    Tensor* seed = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({8}), &seed));
    OP_REQUIRES_OK(context, DrawSeed(seed->data()));
  }
};

class SeedsDrawnOp : public OpKernel {
 public:
  explicit SeedsDrawnOp(OpKernelConstruction* context) : OpKernel(context) {}
  void Compute(OpKernelContext* context) override {
    Tensor* count = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({}), &count));
    count->scalar<int64_t>()() = seeds_drawn.load();
  }
};

// The ops that draw: `draw` is one of the two functions above.
template <Status (*draw)(OpKernelContext*, const Stream&, const Tensor&, const Tensor&,
                         const Tensor&)>
class SeededUniformOp : public OpKernel {
 public:
  explicit SeededUniformOp(OpKernelConstruction* context) : OpKernel(context) {}
  void Compute(OpKernelContext* context) override {
    Stream stream = {};
    OP_REQUIRES_OK(context, SeedToKey(context->input(1), &stream));
    OP_REQUIRES_OK(context,
                   draw(context, stream, context->input(0), context->input(2), context->input(3)));
  }
};

template <Status (*draw)(OpKernelContext*, const Stream&, const Tensor&, const Tensor&,
                         const Tensor&)>
class UniformOp : public OpKernel {
 public:
  explicit UniformOp(OpKernelConstruction* context) : OpKernel(context) {}
  void Compute(OpKernelContext* context) override {
    Stream stream = {};
    OP_REQUIRES_OK(context, DrawSeed(stream.key));
    OP_REQUIRES_OK(context,
                   draw(context, stream, context->input(0), context->input(1), context->input(2)));
  }
};

Status SeedShape(InferenceContext* context) {
  context->set_output(0, context->Vector(8));
  return OkStatus();
}

Status UniformShape(InferenceContext* context) {
  ShapeHandle shape;
  TF_RETURN_IF_ERROR(context->MakeShapeFromShapeTensor(0, &shape));
  context->set_output(0, shape);
  return OkStatus();
}

Status I128UniformShape(InferenceContext* context) {
  ShapeHandle shape;
  TF_RETURN_IF_ERROR(context->MakeShapeFromShapeTensor(0, &shape));
  TF_RETURN_IF_ERROR(context->Concatenate(shape, context->Vector(2), &shape));
  context->set_output(0, shape);
  return OkStatus();
}

REGISTER_OP("SecureSeed").Output("seed: int32").SetIsStateful().SetShapeFn(SeedShape).Doc(R"doc(
Draws 256 bits from getrandom(2), in the process of the device that it runs on.
)doc");

REGISTER_OP("SeedsDrawn")
    .Output("count: int64")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::ScalarShape)
    .Doc(R"doc(
Returns how many seeds the process of the device that it runs on has drawn.
)doc");

REGISTER_OP("SecureSeededRandomUniform")
    .Input("shape: int32")
    .Input("seed: int32")
    .Input("minval: T")
    .Input("maxval: T")
    .Output("values: T")
    .Attr("T: {bool, int8, int16, int32, int64}")
    .SetShapeFn(UniformShape)
    .Doc(R"doc(
Draws integers that are uniform on [minval, maxval) from the ChaCha20 stream of a seed; on the
whole ring if the bounds are the type's lowest and highest value.
)doc");

REGISTER_OP("SecureRandomUniform")
    .Input("shape: int32")
    .Input("minval: T")
    .Input("maxval: T")
    .Output("values: T")
    .Attr("T: {bool, int8, int16, int32, int64}")
    .SetIsStateful()
    .SetShapeFn(UniformShape)
    .Doc(R"doc(
SecureSeededRandomUniform with a seed of its own at each run.
)doc");

REGISTER_OP("I128SecureSeededRandomUniform")
    .Input("shape: int32")
    .Input("seed: int32")
    .Input("minval: int64")
    .Input("maxval: int64")
    .Output("values: int64")
    .SetShapeFn(I128UniformShape)
    .Doc(R"doc(
SecureSeededRandomUniform on 128 bits: bounds and values are pairs of words, the low word first.
)doc");

REGISTER_OP("I128SecureRandomUniform")
    .Input("shape: int32")
    .Input("minval: int64")
    .Input("maxval: int64")
    .Output("values: int64")
    .SetIsStateful()
    .SetShapeFn(I128UniformShape)
    .Doc(R"doc(
SecureRandomUniform on 128 bits.
)doc");

REGISTER_KERNEL_BUILDER(Name("SecureSeed").Device(DEVICE_CPU), SecureSeedOp);
REGISTER_KERNEL_BUILDER(Name("SeedsDrawn").Device(DEVICE_CPU), SeedsDrawnOp);
REGISTER_KERNEL_BUILDER(Name("I128SecureSeededRandomUniform").Device(DEVICE_CPU),
                        SeededUniformOp<DrawI128>);
REGISTER_KERNEL_BUILDER(Name("I128SecureRandomUniform").Device(DEVICE_CPU), UniformOp<DrawI128>);

#define REGISTER_UNIFORM(T)                                                                      \
  REGISTER_KERNEL_BUILDER(                                                                       \
      Name("SecureSeededRandomUniform").Device(DEVICE_CPU).TypeConstraint<T>("T"),               \
      SeededUniformOp<DrawUniform<T>>);                                                          \
  REGISTER_KERNEL_BUILDER(Name("SecureRandomUniform").Device(DEVICE_CPU).TypeConstraint<T>("T"), \
                          UniformOp<DrawUniform<T>>)
REGISTER_UNIFORM(bool);
REGISTER_UNIFORM(int8_t);
REGISTER_UNIFORM(int16_t);
REGISTER_UNIFORM(int32_t);
REGISTER_UNIFORM(int64_t);
#undef REGISTER_UNIFORM

}  // namespace
}  // namespace tfpriv
