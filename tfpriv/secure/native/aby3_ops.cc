// What ABY3's servers compute by themselves between two messages, each as one op that draws its
// own randomness: products and ANDs of shares, the sign of a shared number, a shared bit as a
// number, and truncation.
//
// Notation: a shared x is x0 + x1 + x2 (or the xor of the three); server i holds xi and xi+1.
// Servers i - 1 and i hold key i in common, so server i has the keys i (`key`) and i + 1
// (`key_next`), and the difference of their streams is its share of zero.

#include <type_traits>

#include "shares.h"

namespace tfpriv {
namespace {

#define TFPRIV_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))

// An op over elements that all lie at the same place in its inputs; `kElements` of the inputs are
// such tensors, and the keys follow.
template <int kElements>
class ElementsOp : public OpKernel {
 public:
  explicit ElementsOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("step", &step_));
  }

  void Compute(OpKernelContext* context) override {
    for (int i = 1; i < kElements; ++i) {
      OP_REQUIRES(context, context->input(i).shape() == context->input(0).shape(),
                  InvalidArgument("shares must have one shape, and have ",
                                  context->input(0).shape().DebugString(), " and ",
                                  context->input(i).shape().DebugString()));
    }
    OP_REQUIRES_OK(context, ComputeElements(context));
  }

 protected:
  virtual Status ComputeElements(OpKernelContext* context) = 0;

  // The stream of the key that comes `index` places after the elements.
  Status KeyStream(OpKernelContext* context, int index, int part, Stream* stream) const {
    return SharedStream(context, kElements + index, step_, part, stream);
  }

  template <typename Word>
  static const Word* In(OpKernelContext* context, int index) {
    return static_cast<const Word*>(context->input(index).data());
  }

  // Allocates output `index` in the shape of the elements.
  template <typename Word>
  static Status Out(OpKernelContext* context, int index, Word** out) {
    Tensor* tensor = nullptr;
    TF_RETURN_IF_ERROR(context->allocate_output(index, context->input(0).shape(), &tensor));
    *out = static_cast<Word*>(tensor->data());
    return OkStatus();
  }

  template <typename Body>
  static void ForPieces(OpKernelContext* context, int64_t cost, Body body) {
    Parallel(context, context->input(0).NumElements(), cost,
             [&](int64_t first, int64_t last) { Pieces(first, last, body); });
  }

 private:
  int64_t step_ = 0;
};

// An op over a list of tensors of one shape and `kKeys` keys.
template <int kKeys>
class ListOp : public OpKernel {
 public:
  explicit ListOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("step", &step_));
  }

  void Compute(OpKernelContext* context) override {
    const int parts = context->num_inputs() - kKeys;
    const TensorShape& shape = context->input(0).shape();
    for (int i = 1; i < parts; ++i) {
      OP_REQUIRES(context, context->input(i).shape() == shape,
                  InvalidArgument("shares must have one shape, and have ", shape.DebugString(),
                                  " and ", context->input(i).shape().DebugString()));
    }
    Stream keys[kKeys];
    for (int i = 0; i < kKeys; ++i) {
      OP_REQUIRES_OK(context, SharedStream(context, parts + i, step_, part_, &keys[i]));
    }
    Tensor* out = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &out));
    std::vector<const uint64_t*> in;
    for (int i = 0; i < parts; ++i) {
      in.push_back(static_cast<const uint64_t*>(context->input(i).data()));
    }
    auto* to = static_cast<uint64_t*>(out->data());
    Parallel(context, shape.num_elements(), 40, [&](int64_t first, int64_t last) {
      Pieces(first, last,
             [&](int64_t at, int64_t count) { ComputePiece(in, keys, at, count, to + at); });
    });
  }

 protected:
  virtual void ComputePiece(const std::vector<const uint64_t*>& in, const Stream (&keys)[kKeys],
                            int64_t at, int64_t count, uint64_t* out) const = 0;
  int part_ = 0;

 private:
  int64_t step_ = 0;
};

// Draws a server's boolean share of zero.
template <typename Word>
void DrawZeroXor(const Stream (&keys)[2], int64_t start, int64_t count, Word* out) {
  Word other[kPiece];
  Draw(keys[0], start, count, out);
  Draw(keys[1], start, count, other);
  for (int64_t i = 0; i < count; ++i) out[i] ^= other[i];
}

// Draws a server's arithmetic share of zero.
void DrawZero(const Stream (&keys)[2], int64_t start, int64_t count, uint64_t* out) {
  uint64_t other[kPiece];
  Draw(keys[0], start, count, out);
  Draw(keys[1], start, count, other);
  for (int64_t i = 0; i < count; ++i) out[i] -= other[i];
}

// --- Products ------------------------------------------------------------------------------------

TFPRIV_CLONES void AddProduct(const uint64_t* x, const uint64_t* x_next, const uint64_t* y,
                              const uint64_t* y_next, int64_t count, uint64_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] += x[i] * (y[i] + y_next[i]) + x_next[i] * y[i];
}

class SharesMulOp : public ElementsOp<4> {
 public:
  using ElementsOp::ElementsOp;
  Status ComputeElements(OpKernelContext* context) override {
    Stream keys[2];
    for (int i = 0; i < 2; ++i) TF_RETURN_IF_ERROR(KeyStream(context, i, kOnlyPart, &keys[i]));
    uint64_t* out = nullptr;
    TF_RETURN_IF_ERROR(Out(context, 0, &out));
    const auto *x = In<uint64_t>(context, 0), *x_next = In<uint64_t>(context, 1);
    const auto *y = In<uint64_t>(context, 2), *y_next = In<uint64_t>(context, 3);
    ForPieces(context, 40, [&](int64_t at, int64_t count) {
      DrawZero(keys, at, count, out + at);
      AddProduct(x + at, x_next + at, y + at, y_next + at, count, out + at);
    });
    return OkStatus();
  }
};

template <typename T>
class SharesAndOp : public ElementsOp<4> {
 public:
  using ElementsOp::ElementsOp;
  Status ComputeElements(OpKernelContext* context) override {
    constexpr bool kBool = std::is_same<T, bool>::value;
    typedef std::make_unsigned_t<std::conditional_t<kBool, int8_t, T>> Word;
    Stream keys[2];
    for (int i = 0; i < 2; ++i) TF_RETURN_IF_ERROR(KeyStream(context, i, kOnlyPart, &keys[i]));
    Word* out = nullptr;
    TF_RETURN_IF_ERROR(Out(context, 0, &out));
    const auto *x = In<Word>(context, 0), *x_next = In<Word>(context, 1);
    const auto *y = In<Word>(context, 2), *y_next = In<Word>(context, 3);
    ForPieces(context, 5 * sizeof(Word), [&](int64_t at, int64_t count) {
      DrawZeroXor(keys, at, count, out + at);
      for (int64_t i = at; i < at + count; ++i) {
        out[i] ^= (x[i] & (y[i] ^ y_next[i])) ^ (x_next[i] & y[i]);
        if (kBool) out[i] &= 1;
      }
    });
    return OkStatus();
  }
};

// --- The sign ------------------------------------------------------------------------------------
//
// The sign bit of x = u + v, u = x0 + x1 known to server 0 and v = x2 known to servers 1 and 2, is
// the xor of the top bits of u and v and of the carry into the top place. The carry comes from a
// tree over pairs (g, p) = (u and v, u xor v) of bits, which merges neighbors: (g, p) of the higher
// and (g', p') of the lower become (g xor p g', p p').
//
// Bit k of a word is kept at the place that has k's six bits in reverse order. Then the neighbors
// of each level are the upper and the lower half of what is left, and halving takes one shift. The
// top bit stays where it is; (0, 1) is put in its place, which hands on the carry from below.

constexpr uint64_t kTop = uint64_t{1} << 63;

inline uint64_t SwapBits(uint64_t x, uint64_t mask, int distance) {
  const uint64_t change = (x ^ (x >> distance)) & mask;
  return x ^ change ^ (change << distance);
}

// Moves bit k to the place with k's bits reversed: swaps bits 0 and 5, 1 and 4, 2 and 3 of k.
inline uint64_t ReverseIndices(uint64_t x) {
  x = SwapBits(x, 0x00000000aaaaaaaa, 31);
  x = SwapBits(x, 0x0000cccc0000cccc, 14);
  return SwapBits(x, 0x00f000f000f000f0, 4);
}

TFPRIV_CLONES void ReverseAll(const uint64_t* x, const uint64_t* plus, int64_t count,
                              uint64_t* out) {
  if (plus == nullptr) {
    for (int64_t i = 0; i < count; ++i) out[i] = ReverseIndices(x[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = ReverseIndices(x[i] + plus[i]);
  }
}

// What is drawn from a key in the step of one sign.
enum SignPart {
  kSignMask,
  kSignGenerate,
  kSignMergeFirst,
  kSignMerge64,
  kSignMerge32,
  kSignMerge16,
  kSignMerge8,
  kSignFinish,
  kSignParts
};
static_assert(kSignParts <= kMostParts, "parts of a step are told apart by one byte");

// Server 0 shares u as (u xor r, r, 0), where r is the stream of key 1. It sends the first to
// server 2.
class SignShareOp : public ElementsOp<2> {
 public:
  using ElementsOp::ElementsOp;
  Status ComputeElements(OpKernelContext* context) override {
    Stream key;
    TF_RETURN_IF_ERROR(KeyStream(context, 0, kSignMask, &key));
    uint64_t *share = nullptr, *mask = nullptr;
    TF_RETURN_IF_ERROR(Out(context, 0, &share));
    TF_RETURN_IF_ERROR(Out(context, 1, &mask));
    const auto *x0 = In<uint64_t>(context, 0), *x1 = In<uint64_t>(context, 1);
    ForPieces(context, 40, [&](int64_t at, int64_t count) {
      Draw(key, at, count, mask + at);
      ReverseAll(x0 + at, x1 + at, count, share + at);
      for (int64_t i = at; i < at + count; ++i) share[i] ^= mask[i];
    });
    return OkStatus();
  }
};

// Server 1 makes r and v of its own.
class SignMaskOp : public ElementsOp<1> {
 public:
  using ElementsOp::ElementsOp;
  Status ComputeElements(OpKernelContext* context) override {
    Stream key;
    TF_RETURN_IF_ERROR(KeyStream(context, 0, kSignMask, &key));
    uint64_t *mask = nullptr, *v = nullptr;
    TF_RETURN_IF_ERROR(Out(context, 0, &mask));
    TF_RETURN_IF_ERROR(Out(context, 1, &v));
    const auto* x2 = In<uint64_t>(context, 0);
    ForPieces(context, 40, [&](int64_t at, int64_t count) {
      Draw(key, at, count, mask + at);
      ReverseAll(x2 + at, nullptr, count, v + at);
    });
    return OkStatus();
  }
};

// Server 2 makes v.
class SignReverseOp : public OpKernel {
 public:
  explicit SignReverseOp(OpKernelConstruction* context) : OpKernel(context) {}
  void Compute(OpKernelContext* context) override {
    Tensor* out = nullptr;
    const Tensor& x = context->input(0);
    OP_REQUIRES_OK(context, context->allocate_output(0, x.shape(), &out));
    const auto* from = static_cast<const uint64_t*>(x.data());
    auto* to = static_cast<uint64_t*>(out->data());
    Parallel(context, x.NumElements(), 10, [&](int64_t first, int64_t last) {
      ReverseAll(from + first, nullptr, last - first, to + first);
    });
  }
};

// A server's share of g = u and v. With u shared as (s0, s1, 0) and v as (0, 0, v), what remains of
// the product is nothing for server 0, s1 v for server 1 and s0 v for server 2. Server 0 gives any
// tensor of the shape, servers 1 and 2 give s and v.
class SignGenerateOp : public ListOp<2> {
 public:
  explicit SignGenerateOp(OpKernelConstruction* context) : ListOp(context) {
    part_ = kSignGenerate;
  }

 protected:
  void ComputePiece(const std::vector<const uint64_t*>& in, const Stream (&keys)[2], int64_t at,
                    int64_t count, uint64_t* out) const override {
    DrawZeroXor(keys, at, count, out);
    if (in.size() < 2) return;
    for (int64_t i = 0; i < count; ++i) out[i] ^= in[0][at + i] & in[1][at + i];
  }
};

// The first level of the tree: words of 64 g and words of 64 p become words of 32 g, in the lower
// half, and 32 p, in the upper. p_top is what this server has at p's top place (see above): the
// public 1 is server 0's first share and server 2's second.
TFPRIV_CLONES void MergeFirst(const uint64_t* g, const uint64_t* g_next, const uint64_t* p,
                              const uint64_t* p_next, uint64_t p_top, uint64_t p_next_top,
                              int64_t count, uint64_t* out) {
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t g0 = g[i] & ~kTop, g1 = g_next[i] & ~kTop;
    const uint64_t p0 = (p[i] & ~kTop) | p_top, p1 = (p_next[i] & ~kTop) | p_next_top;
    // Both halves meet p's upper half: g's lower half goes below, p's lower half above.
    const uint64_t low0 = (g0 & 0xffffffff) | (p0 << 32), low1 = (g1 & 0xffffffff) | (p1 << 32);
    const uint64_t high0 = (p0 >> 32) | (p0 & ~uint64_t{0xffffffff});
    const uint64_t high1 = (p1 >> 32) | (p1 & ~uint64_t{0xffffffff});
    out[i] ^= (low0 & (high0 ^ high1)) ^ (low1 & high0) ^ (g0 >> 32);
  }
}

class SignMergeFirstOp : public ElementsOp<4> {
 public:
  explicit SignMergeFirstOp(OpKernelConstruction* context) : ElementsOp(context) {
    OP_REQUIRES_OK(context, context->GetAttr("server", &server_));
  }
  Status ComputeElements(OpKernelContext* context) override {
    Stream keys[2];
    for (int i = 0; i < 2; ++i)
      TF_RETURN_IF_ERROR(KeyStream(context, i, kSignMergeFirst, &keys[i]));
    uint64_t* out = nullptr;
    TF_RETURN_IF_ERROR(Out(context, 0, &out));
    const auto *g = In<uint64_t>(context, 0), *g_next = In<uint64_t>(context, 1);
    const auto *p = In<uint64_t>(context, 2), *p_next = In<uint64_t>(context, 3);
    const uint64_t top = server_ == 0 ? kTop : 0, next_top = server_ == 2 ? kTop : 0;
    ForPieces(context, 40, [&](int64_t at, int64_t count) {
      DrawZeroXor(keys, at, count, out + at);
      MergeFirst(g + at, g_next + at, p + at, p_next + at, top, next_top, count, out + at);
    });
    return OkStatus();
  }

 private:
  int server_ = 0;
};

// A further level: words of `bits` g below `bits` p become words of half as many of each.
template <typename In, typename Out>
inline __attribute__((always_inline)) void MergeWords(const In* x, const In* x_next, int bits,
                                                      int64_t count, Out* out) {
  const int half = bits / 2;
  const In mask = static_cast<In>((uint64_t{1} << half) - 1);
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t a = x[i], b = x_next[i];
    const uint64_t g = a & mask, g_next = b & mask;
    const uint64_t g_high = (a >> half) & mask;
    const uint64_t p = (a >> bits) & mask, p_next = (b >> bits) & mask;
    const uint64_t high = (a >> (bits + half)) & mask, high_next = (b >> (bits + half)) & mask;
    const uint64_t both = high ^ high_next;
    const uint64_t merged_g = (g & both) ^ (g_next & high) ^ g_high;
    const uint64_t merged_p = (p & both) ^ (p_next & high);
    out[i] ^= static_cast<Out>(merged_g | (merged_p << half));
  }
}

TFPRIV_CLONES void Merge64(const uint64_t* x, const uint64_t* x_next, int64_t count,
                           uint32_t* out) {
  MergeWords(x, x_next, 32, count, out);
}
TFPRIV_CLONES void Merge32(const uint32_t* x, const uint32_t* x_next, int64_t count,
                           uint16_t* out) {
  MergeWords(x, x_next, 16, count, out);
}
TFPRIV_CLONES void Merge16(const uint16_t* x, const uint16_t* x_next, int64_t count, uint8_t* out) {
  MergeWords(x, x_next, 8, count, out);
}
TFPRIV_CLONES void Merge8(const uint8_t* x, const uint8_t* x_next, int64_t count, uint8_t* out) {
  MergeWords(x, x_next, 4, count, out);
}

template <typename InWord, typename OutWord, SignPart part,
          void (*merge)(const InWord*, const InWord*, int64_t, OutWord*)>
class SignMergeOp : public ElementsOp<2> {
 public:
  using ElementsOp::ElementsOp;
  Status ComputeElements(OpKernelContext* context) override {
    Stream keys[2];
    for (int i = 0; i < 2; ++i) {
      TF_RETURN_IF_ERROR(KeyStream(context, i, part, &keys[i]));
    }
    OutWord* out = nullptr;
    TF_RETURN_IF_ERROR(Out(context, 0, &out));
    const auto *x = In<InWord>(context, 0), *x_next = In<InWord>(context, 1);
    ForPieces(context, 20, [&](int64_t at, int64_t count) {
      DrawZeroXor(keys, at, count, out + at);
      merge(x + at, x_next + at, count, out + at);
    });
    return OkStatus();
  }
};

// The last level, from 2 g and 2 p to the carry, and the xor with the top bit of p.
class SignFinishOp : public ElementsOp<3> {
 public:
  using ElementsOp::ElementsOp;
  Status ComputeElements(OpKernelContext* context) override {
    Stream keys[2];
    for (int i = 0; i < 2; ++i) TF_RETURN_IF_ERROR(KeyStream(context, i, kSignFinish, &keys[i]));
    uint8_t* sign = nullptr;
    TF_RETURN_IF_ERROR(Out(context, 0, &sign));
    const auto *a = In<uint8_t>(context, 0), *b = In<uint8_t>(context, 1);
    const auto* p = In<uint64_t>(context, 2);
    ForPieces(context, 20, [&](int64_t at, int64_t count) {
      DrawZeroXor(keys, at, count, sign + at);
      for (int64_t i = at; i < at + count; ++i) {
        // Bits 0 and 1 are g of the lower and the higher half, bits 2 and 3 are p.
        const uint8_t high = a[i] >> 3, high_next = b[i] >> 3;
        const uint8_t carry = (a[i] & (high ^ high_next)) ^ (b[i] & high) ^ (a[i] >> 1);
        sign[i] = (sign[i] ^ carry ^ static_cast<uint8_t>(p[i] >> 63)) & 1;
      }
    });
    return OkStatus();
  }
};

// --- A bit as a number ---------------------------------------------------------------------------
//
// A bit b = c xor d, c = b0 xor b1 known to server 0 and d = b2 known to servers 1 and 2, is the
// number c + d - 2cd. Server 0 shares c as (c - r, r, 0), r from the stream of key 1; with d shared
// as (0, 0, d) the product's parts are nothing for server 0, r d for server 1, (c - r) d for 2.

enum BitPart { kBitMask, kBitZero, kBitParts };
static_assert(kBitParts <= kMostParts, "parts of a step are told apart by one byte");

// Server 0: outputs c - r, which it sends to server 2, and its share of the number.
class BitShareOp : public ElementsOp<2> {
 public:
  using ElementsOp::ElementsOp;
  Status ComputeElements(OpKernelContext* context) override {
    Stream keys[2], mask_key;
    for (int i = 0; i < 2; ++i) TF_RETURN_IF_ERROR(KeyStream(context, i, kBitZero, &keys[i]));
    TF_RETURN_IF_ERROR(KeyStream(context, 1, kBitMask, &mask_key));
    uint64_t *share = nullptr, *number = nullptr;
    TF_RETURN_IF_ERROR(Out(context, 0, &share));
    TF_RETURN_IF_ERROR(Out(context, 1, &number));
    const auto *b0 = In<uint8_t>(context, 0), *b1 = In<uint8_t>(context, 1);
    ForPieces(context, 60, [&](int64_t at, int64_t count) {
      uint64_t mask[kPiece];
      Draw(mask_key, at, count, mask);
      DrawZero(keys, at, count, number + at);
      for (int64_t i = 0; i < count; ++i) {
        share[at + i] = static_cast<uint64_t>(b0[at + i] ^ b1[at + i]) - mask[i];
        number[at + i] += share[at + i];
      }
    });
    return OkStatus();
  }
};

// Server 1: its share of the number, r - 2 r d.
class BitMaskOp : public ElementsOp<1> {
 public:
  using ElementsOp::ElementsOp;
  Status ComputeElements(OpKernelContext* context) override {
    Stream keys[2], mask_key;
    for (int i = 0; i < 2; ++i) TF_RETURN_IF_ERROR(KeyStream(context, i, kBitZero, &keys[i]));
    TF_RETURN_IF_ERROR(KeyStream(context, 0, kBitMask, &mask_key));
    uint64_t* number = nullptr;
    TF_RETURN_IF_ERROR(Out(context, 0, &number));
    const auto* d = In<uint8_t>(context, 0);
    ForPieces(context, 60, [&](int64_t at, int64_t count) {
      uint64_t mask[kPiece];
      Draw(mask_key, at, count, mask);
      DrawZero(keys, at, count, number + at);
      for (int64_t i = 0; i < count; ++i) number[at + i] += d[at + i] ? -mask[i] : mask[i];
    });
    return OkStatus();
  }
};

// Server 2: its share of the number, d - 2 (c - r) d.
class BitFinishOp : public ElementsOp<2> {
 public:
  using ElementsOp::ElementsOp;
  Status ComputeElements(OpKernelContext* context) override {
    Stream keys[2];
    for (int i = 0; i < 2; ++i) TF_RETURN_IF_ERROR(KeyStream(context, i, kBitZero, &keys[i]));
    uint64_t* number = nullptr;
    TF_RETURN_IF_ERROR(Out(context, 0, &number));
    const auto* d = In<uint8_t>(context, 0);
    const auto* share = In<uint64_t>(context, 1);
    ForPieces(context, 40, [&](int64_t at, int64_t count) {
      DrawZero(keys, at, count, number + at);
      for (int64_t i = at; i < at + count; ++i) {
        if (d[i]) number[i] += 1 - 2 * share[i];
      }
    });
    return OkStatus();
  }
};

// --- Truncation ----------------------------------------------------------------------------------
//
// Dalskov, Escudero and Keller 2020 (https://eprint.iacr.org/2019/131, section 5), as in
// tf-encrypted: server 2 deals r, whose top bit is t and whose other bits shifted are s; servers 0
// and 1 open c = x + r, and x >> f is (c >> f) - s + (top bit of c xor t) 2^(63 - f), one too large
// or exact. x must lie in [0, 2^63); `lift` = 2^62 is added before, and taken off after, so that it
// may lie in [-2^62, 2^62).
//
// r = r0 + r1, r0 from the stream of key 0 (servers 2 and 0), r1 from that of key 2 (servers 1 and
// 2). Server 2 sends server 1 what is left of s and t when s0 and t0, from key 0, are taken off.
// The result is shared as (y0, y1, y2), y0 from key 0 and y2 from key 2.

constexpr uint64_t kLift = uint64_t{1} << 62;
enum TruncationPart { kR = 0, kS = 1, kT = 2, kY = 3 };

template <int kElements>
class TruncationOp : public ElementsOp<kElements> {
 public:
  explicit TruncationOp(OpKernelConstruction* context) : ElementsOp<kElements>(context) {
    OP_REQUIRES_OK(context, context->GetAttr("amount", &amount_));
    OP_REQUIRES(context, amount_ >= 1 && amount_ <= 62,
                InvalidArgument("amount must lie in [1, 62], and is ", amount_));
  }

 protected:
  int amount_ = 1;
};

// Server 2: s1 and t1 for server 1, and its shares y2 and y0 of the result. The element is any
// tensor of the shape.
class TruncationDealOp : public TruncationOp<1> {
 public:
  using TruncationOp::TruncationOp;
  Status ComputeElements(OpKernelContext* context) override {
    Stream of_0[4], of_2[4];
    for (const int part : {kR, kS, kT, kY}) {
      TF_RETURN_IF_ERROR(KeyStream(context, 0, part, &of_2[part]));
      TF_RETURN_IF_ERROR(KeyStream(context, 1, part, &of_0[part]));
    }
    uint64_t *s1 = nullptr, *t1 = nullptr, *y2 = nullptr, *y0 = nullptr;
    TF_RETURN_IF_ERROR(Out(context, 0, &s1));
    TF_RETURN_IF_ERROR(Out(context, 1, &t1));
    TF_RETURN_IF_ERROR(Out(context, 2, &y2));
    TF_RETURN_IF_ERROR(Out(context, 3, &y0));
    const int amount = amount_;
    ForPieces(context, 100, [&](int64_t at, int64_t count) {
      uint64_t r0[kPiece], r1[kPiece];
      Draw(of_0[kR], at, count, r0);
      Draw(of_2[kR], at, count, r1);
      Draw(of_0[kS], at, count, s1 + at);
      Draw(of_0[kT], at, count, t1 + at);
      Draw(of_2[kY], at, count, y2 + at);
      Draw(of_0[kY], at, count, y0 + at);
      for (int64_t i = 0; i < count; ++i) {
        const uint64_t r = r0[i] + r1[i];
        s1[at + i] = ((r & ~kTop) >> amount) - s1[at + i];
        t1[at + i] = (r >> 63) - t1[at + i];
      }
    });
    return OkStatus();
  }
};

// Servers 0 and 1: their parts of c. Server 0 gives x0 and x1 and lifts, server 1 gives x2.
class TruncationMaskOp : public ListOp<1> {
 public:
  explicit TruncationMaskOp(OpKernelConstruction* context) : ListOp(context) {
    part_ = kR;
    OP_REQUIRES_OK(context, context->GetAttr("lift", &lift_));
  }

 protected:
  void ComputePiece(const std::vector<const uint64_t*>& in, const Stream (&keys)[1], int64_t at,
                    int64_t count, uint64_t* out) const override {
    Draw(keys[0], at, count, out);
    for (const uint64_t* share : in) {
      for (int64_t i = 0; i < count; ++i) out[i] += share[at + i];
    }
    if (!lift_) return;
    for (int64_t i = 0; i < count; ++i) out[i] += kLift;
  }

 private:
  bool lift_ = false;
};

// Server 0: its part of y1 and its share y0.
class TruncationFinish0Op : public TruncationOp<2> {
 public:
  explicit TruncationFinish0Op(OpKernelConstruction* context) : TruncationOp(context) {
    OP_REQUIRES_OK(context, context->GetAttr("lift", &lift_));
  }
  Status ComputeElements(OpKernelContext* context) override {
    Stream key[4];
    for (const int part : {kS, kT, kY}) {
      TF_RETURN_IF_ERROR(KeyStream(context, 0, part, &key[part]));
    }
    uint64_t *part = nullptr, *y0 = nullptr;
    TF_RETURN_IF_ERROR(Out(context, 0, &part));
    TF_RETURN_IF_ERROR(Out(context, 1, &y0));
    const auto *c0 = In<uint64_t>(context, 0), *c1 = In<uint64_t>(context, 1);
    const int amount = amount_;
    const uint64_t lift = lift_ ? kLift >> amount : 0;
    ForPieces(context, 80, [&](int64_t at, int64_t count) {
      uint64_t s0[kPiece], t0[kPiece];
      Draw(key[kS], at, count, s0);
      Draw(key[kT], at, count, t0);
      Draw(key[kY], at, count, y0 + at);
      for (int64_t i = 0; i < count; ++i) {
        const uint64_t c = c0[at + i] + c1[at + i];
        const uint64_t top = (c >> 63) ? 1 - t0[i] : t0[i];
        part[at + i] = ((c & ~kTop) >> amount) - s0[i] + (top << (63 - amount)) - lift - y0[at + i];
      }
    });
    return OkStatus();
  }

 private:
  bool lift_ = false;
};

// Server 1: its part of y1 and its share y2.
class TruncationFinish1Op : public TruncationOp<4> {
 public:
  using TruncationOp::TruncationOp;
  Status ComputeElements(OpKernelContext* context) override {
    Stream key;
    TF_RETURN_IF_ERROR(KeyStream(context, 0, kY, &key));
    uint64_t *part = nullptr, *y2 = nullptr;
    TF_RETURN_IF_ERROR(Out(context, 0, &part));
    TF_RETURN_IF_ERROR(Out(context, 1, &y2));
    const auto *c0 = In<uint64_t>(context, 0), *c1 = In<uint64_t>(context, 1);
    const auto *s1 = In<uint64_t>(context, 2), *t1 = In<uint64_t>(context, 3);
    const int amount = amount_;
    ForPieces(context, 40, [&](int64_t at, int64_t count) {
      Draw(key, at, count, y2 + at);
      for (int64_t i = at; i < at + count; ++i) {
        const uint64_t top = ((c0[i] + c1[i]) >> 63) ? -t1[i] : t1[i];
        part[i] = (top << (63 - amount)) - s1[i] - y2[i];
      }
    });
    return OkStatus();
  }
};

// --- Registration --------------------------------------------------------------------------------

// All outputs have the shape of the first input.
Status SameShapes(InferenceContext* context) {
  for (int i = 0; i < context->num_outputs(); ++i) context->set_output(i, context->input(0));
  return OkStatus();
}

REGISTER_OP("SharesMul")
    .Input("x: int64")
    .Input("x_next: int64")
    .Input("y: int64")
    .Input("y_next: int64")
    .Input("key: int32")
    .Input("key_next: int32")
    .Attr("step: int")
    .Output("share: int64")
    .SetShapeFn(SameShapes);
REGISTER_OP("SharesAnd")
    .Input("x: T")
    .Input("x_next: T")
    .Input("y: T")
    .Input("y_next: T")
    .Input("key: int32")
    .Input("key_next: int32")
    .Attr("step: int")
    .Attr("T: {bool, int8, int16, int32, int64}")
    .Output("share: T")
    .SetShapeFn(SameShapes);

REGISTER_OP("SignShare")
    .Input("x0: int64")
    .Input("x1: int64")
    .Input("key: int32")
    .Attr("step: int")
    .Output("share: int64")
    .Output("mask: int64")
    .SetShapeFn(SameShapes);
REGISTER_OP("SignMask")
    .Input("x2: int64")
    .Input("key: int32")
    .Attr("step: int")
    .Output("mask: int64")
    .Output("v: int64")
    .SetShapeFn(SameShapes);
REGISTER_OP("SignReverse").Input("x2: int64").Output("v: int64").SetShapeFn(SameShapes);
REGISTER_OP("SignGenerate")
    .Input("factors: count * int64")
    .Input("key: int32")
    .Input("key_next: int32")
    .Attr("step: int")
    .Attr("count: int >= 1")
    .Output("share: int64")
    .SetShapeFn(SameShapes);
REGISTER_OP("SignMergeFirst")
    .Input("g: int64")
    .Input("g_next: int64")
    .Input("p: int64")
    .Input("p_next: int64")
    .Input("key: int32")
    .Input("key_next: int32")
    .Attr("step: int")
    .Attr("server: int")
    .Output("share: int64")
    .SetShapeFn(SameShapes);
REGISTER_OP("SignMerge")
    .Input("x: T")
    .Input("x_next: T")
    .Input("key: int32")
    .Input("key_next: int32")
    .Attr("step: int")
    .Attr("T: {uint8, uint16, uint32, int64}")
    .Attr("Half: {uint8, uint16, uint32}")
    .Output("share: Half")
    .SetShapeFn(SameShapes);
REGISTER_OP("SignFinish")
    .Input("x: uint8")
    .Input("x_next: uint8")
    .Input("p: int64")
    .Input("key: int32")
    .Input("key_next: int32")
    .Attr("step: int")
    .Output("sign: bool")
    .SetShapeFn(SameShapes);

REGISTER_OP("BitShare")
    .Input("b0: bool")
    .Input("b1: bool")
    .Input("key: int32")
    .Input("key_next: int32")
    .Attr("step: int")
    .Output("share: int64")
    .Output("number: int64")
    .SetShapeFn(SameShapes);
REGISTER_OP("BitMask")
    .Input("b2: bool")
    .Input("key: int32")
    .Input("key_next: int32")
    .Attr("step: int")
    .Output("number: int64")
    .SetShapeFn(SameShapes);
REGISTER_OP("BitFinish")
    .Input("b2: bool")
    .Input("share: int64")
    .Input("key: int32")
    .Input("key_next: int32")
    .Attr("step: int")
    .Output("number: int64")
    .SetShapeFn(SameShapes);

REGISTER_OP("TruncationDeal")
    .Input("x: int64")
    .Input("key: int32")
    .Input("key_next: int32")
    .Attr("step: int")
    .Attr("amount: int")
    .Output("s1: int64")
    .Output("t1: int64")
    .Output("y2: int64")
    .Output("y0: int64")
    .SetShapeFn(SameShapes);
REGISTER_OP("TruncationMask")
    .Input("shares: count * int64")
    .Input("key: int32")
    .Attr("step: int")
    .Attr("count: int >= 1")
    .Attr("lift: bool")
    .Output("c: int64")
    .SetShapeFn(SameShapes);
REGISTER_OP("TruncationFinish0")
    .Input("c0: int64")
    .Input("c1: int64")
    .Input("key: int32")
    .Attr("step: int")
    .Attr("amount: int")
    .Attr("lift: bool")
    .Output("y1_part: int64")
    .Output("y0: int64")
    .SetShapeFn(SameShapes);
REGISTER_OP("TruncationFinish1")
    .Input("c0: int64")
    .Input("c1: int64")
    .Input("s1: int64")
    .Input("t1: int64")
    .Input("key: int32")
    .Attr("step: int")
    .Attr("amount: int")
    .Output("y1_part: int64")
    .Output("y2: int64")
    .SetShapeFn(SameShapes);

#define REGISTER_KERNEL(name) REGISTER_KERNEL_BUILDER(Name(#name).Device(DEVICE_CPU), name##Op)
REGISTER_KERNEL(SharesMul);
REGISTER_KERNEL(SignShare);
REGISTER_KERNEL(SignMask);
REGISTER_KERNEL(SignReverse);
REGISTER_KERNEL(SignGenerate);
REGISTER_KERNEL(SignMergeFirst);
REGISTER_KERNEL(SignFinish);
REGISTER_KERNEL(BitShare);
REGISTER_KERNEL(BitMask);
REGISTER_KERNEL(BitFinish);
REGISTER_KERNEL(TruncationDeal);
REGISTER_KERNEL(TruncationMask);
REGISTER_KERNEL(TruncationFinish0);
REGISTER_KERNEL(TruncationFinish1);
#undef REGISTER_KERNEL

#define REGISTER_AND(T)                                                                \
  REGISTER_KERNEL_BUILDER(Name("SharesAnd").Device(DEVICE_CPU).TypeConstraint<T>("T"), \
                          SharesAndOp<T>)
REGISTER_AND(bool);
REGISTER_AND(int8_t);
REGISTER_AND(int16_t);
REGISTER_AND(int32_t);
REGISTER_AND(int64_t);
#undef REGISTER_AND

#define REGISTER_MERGE(T, Word, Half, merge)                                                    \
  REGISTER_KERNEL_BUILDER(                                                                      \
      Name("SignMerge").Device(DEVICE_CPU).TypeConstraint<T>("T").TypeConstraint<Half>("Half"), \
      SignMergeOp<Word, Half, kSign##merge, merge>)
REGISTER_MERGE(int64_t, uint64_t, uint32_t, Merge64);
REGISTER_MERGE(uint32_t, uint32_t, uint16_t, Merge32);
REGISTER_MERGE(uint16_t, uint16_t, uint8_t, Merge16);
REGISTER_MERGE(uint8_t, uint8_t, uint8_t, Merge8);
#undef REGISTER_MERGE

}  // namespace
}  // namespace tfpriv
