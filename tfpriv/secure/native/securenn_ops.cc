// What SecureNN's servers compute by themselves between two messages to find the sign of a shared
// number, each as one op that draws its own randomness; and the numbers that two of them have in
// common. See tfpriv/secure/protocols/securenn.py for the protocols.
//
// Notation: x = x0 + x1 modulo 2^64, of which server j holds xj. Servers i and j hold key ij in
// common. The bits of a number are shared modulo 127, as bytes.
//
// Rows, the 64 bits of a number, are worked on in blocks of 64: byte [place][row] of a block is the
// bit at `place` of number `row`, so that a vector holds one place of all rows. The last block of a
// tensor is stored with as many rows as are left.

#include <algorithm>

#include "shares.h"

namespace tfpriv {
namespace {

#define TFPRIV_CLONES __attribute__((target_clones("avx2", "default")))
#define TFPRIV_INLINE inline __attribute__((always_inline))

// A prime above 65, the largest number that a comparison compares with zero. Of the seven-bit
// words only one is not a residue, and residues fill a byte of a message as well as any.
constexpr uint8_t kPrime = 127;
constexpr int kRows = 64;
constexpr int kPlaces = 64;
constexpr int64_t kBlock = kRows * kPlaces;

// What is drawn in a step: of the keys that server 2 has ...
enum DealtPart { kMaskPart, kBitsPart, kBitsAgainPart, kFoundPart, kProductPart };
// ... and of the key that it does not have.
enum HiddenPart { kFactorsPart, kFactorsAgainPart, kZerosPart, kZerosAgainPart };

// --- The field -----------------------------------------------------------------------------------

TFPRIV_INLINE uint8_t Reduce(uint8_t x) {  // x below 254
  return std::min<uint8_t>(x, x - kPrime);
}
TFPRIV_INLINE uint8_t Add(uint8_t x, uint8_t y) { return Reduce(x + y); }
TFPRIV_INLINE uint8_t Negative(uint8_t x) { return Reduce(kPrime - x); }
TFPRIV_INLINE uint8_t Product(uint8_t x, uint8_t y) {
  const uint16_t z = static_cast<uint16_t>(x) * y;
  return Reduce(static_cast<uint8_t>((z & kPrime) + (z >> 7)));  // 2^7 is 1
}

// Returns x where the mask is 255, and y where it is 0; a choice by `?` would not be vectorized.
TFPRIV_INLINE uint8_t Choose(uint8_t mask, uint8_t x, uint8_t y) { return y ^ ((x ^ y) & mask); }

// Draws numbers of the field, uniformly, for blocks: a seven-bit word is drawn anew if it is 127,
// or 0 where `nonzero` is asked for. The words drawn anew are those of another stream, in order.
struct FieldStream {
  Stream main, again;
  bool nonzero;

  static Status Make(OpKernelContext* context, int key, int64_t step, int part, int again_part,
                     bool nonzero, FieldStream* out) {
    TF_RETURN_IF_ERROR(SharedStream(context, key, step, part, &out->main));
    out->nonzero = nonzero;
    return SharedStream(context, key, step, again_part, &out->again);
  }

  bool Rejected(uint8_t word) const { return word == kPrime || (nonzero && word == 0); }

  // Writes block `number`. The bytes' top bits, which the words do not have, are random bits of
  // their own; where `top_bits` is given, those of its first places go there, as bytes 0 and 255.
  void Draw(int64_t number, uint8_t* out, uint8_t* top_bits = nullptr, int places = 0) const {
    constexpr uint64_t kOnes = 0x0101010101010101;
    ReadStream(main, number * kBlock, kBlock, out);
    for (int i = 0; i < places * kRows; ++i) top_bits[i] = out[i] & 128 ? 255 : 0;
    uint8_t words[kBlockBytes];
    int64_t used = 0;
    for (int at = 0; at < kBlock; at += 8) {
      uint64_t eight;
      std::memcpy(&eight, out + at, 8);
      eight &= 127 * kOnes;
      std::memcpy(out + at, &eight, 8);
      // Adding one to a byte sets its top bit if the byte is 127.
      uint64_t rejected = eight + kOnes;
      if (nonzero) rejected |= (eight ^ 127 * kOnes) + kOnes;
      for (rejected &= 128 * kOnes; rejected != 0; rejected &= rejected - 1) {
        uint8_t& word = out[at + __builtin_ctzll(rejected) / 8];
        while (Rejected(word)) {
          const int64_t next = used++ % kBlockBytes;
          if (next == 0) ReadStream(again, number * kBlock + used - 1, kBlockBytes, words);
          word = words[next] & 127;
        }
      }
    }
  }
};

// --- Blocks --------------------------------------------------------------------------------------

// Puts byte k of number `row` at [k][row].
void BytePlanes(const uint64_t* numbers, int rows, uint8_t* planes) {
  for (int row = 0; row < kRows; ++row) {
    const uint64_t number = row < rows ? numbers[row] : 0;
    for (int k = 0; k < 8; ++k) planes[k * kRows + row] = static_cast<uint8_t>(number >> (8 * k));
  }
}

void Store(const uint8_t* block, int rows, uint8_t* out) {
  for (int place = 0; place < kPlaces; ++place) {
    std::memcpy(out + place * rows, block + place * kRows, rows);
  }
}

void Load(const uint8_t* in, int rows, uint8_t* block) {
  if (rows < kRows) std::memset(block, 0, kBlock);
  for (int place = 0; place < kPlaces; ++place) {
    std::memcpy(block + place * kRows, in + place * rows, rows);
  }
}

// Takes server 0's share of the bits to server 1's.
TFPRIV_CLONES void OtherShare(const uint8_t* planes, uint8_t* block) {
  for (int place = 0; place < kPlaces; ++place) {
    const uint8_t* plane = planes + place / 8 * kRows;
    uint8_t* share = block + place * kRows;
    const uint8_t mask = 1 << place % 8;
    for (int row = 0; row < kRows; ++row) {
      share[row] = Add(Negative(share[row]), plane[row] & mask ? 1 : 0);
    }
  }
}

// Takes a server's share of the bits of r to its share of
//     sign (s - r) + 1 + the sum of (s xor r) over all higher places
// at each place, where s is public. It is zero at most at the highest place where the bits differ,
// and there if r is greater and the sign is 1, or s is greater and the sign is -1. `constant` is 1
// for the server that adds what is public, `negate` is 255 where the sign is -1.
TFPRIV_CLONES void Compare(const uint8_t* s_planes, const uint8_t* __restrict negate,
                           uint8_t constant, uint8_t* block) {
  uint8_t sum[kRows] = {};
  for (int place = kPlaces - 1; place >= 0; --place) {
    const uint8_t* __restrict plane = s_planes + place / 8 * kRows;
    uint8_t* __restrict share = block + place * kRows;
    const uint8_t mask = 1 << place % 8;
    for (int row = 0; row < kRows; ++row) {
      const uint8_t is_one = (plane[row] & mask) == mask ? 255 : 0;
      const uint8_t r = share[row], minus_r = Negative(r);
      const uint8_t flipped = Add(minus_r, constant);
      const uint8_t difference = Choose(is_one, flipped, minus_r);
      const uint8_t directed = Choose(negate[row], Negative(difference), difference);
      share[row] = Add(Add(directed, constant), sum[row]);
      sum[row] = Add(sum[row], Choose(is_one, flipped, r));
    }
  }
}

// Moves what is at place i of a row to the place whose number is i xor the row's own six bits, of
// which moves[bit][row] is 255 where bit is one.
TFPRIV_CLONES void Move(const uint8_t* moves, uint8_t* block) {
  for (int bit = 0; bit < 6; ++bit) {
    const int distance = 1 << bit;
    for (int place = 0; place < kPlaces; ++place) {
      if (place & distance) continue;
      uint8_t *low = block + place * kRows, *high = low + distance * kRows;
      for (int row = 0; row < kRows; ++row) {
        const uint8_t change = (low[row] ^ high[row]) & moves[bit * kRows + row];
        low[row] ^= change;
        high[row] ^= change;
      }
    }
  }
}

TFPRIV_CLONES void Hide(const uint8_t* factors, const uint8_t* zeros, bool negate, uint8_t* block) {
  for (int i = 0; i < kBlock; ++i) {
    block[i] = Add(Product(block[i], factors[i]), negate ? Negative(zeros[i]) : zeros[i]);
  }
}

TFPRIV_CLONES void FindZeros(const uint8_t* d0, const uint8_t* d1, uint8_t* found) {
  std::memset(found, 0, kRows);
  for (int place = 0; place < kPlaces; ++place) {
    for (int row = 0; row < kRows; ++row) {
      found[row] |= Add(d0[place * kRows + row], d1[place * kRows + row]) == 0 ? 1 : 0;
    }
  }
}

// --- The ops -------------------------------------------------------------------------------------

class StepOp : public OpKernel {
 public:
  explicit StepOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("step", &step_));
  }

 protected:
  template <typename Word>
  static const Word* In(OpKernelContext* context, int index) {
    return static_cast<const Word*>(context->input(index).data());
  }

  template <typename Word>
  static Status Out(OpKernelContext* context, int index, const TensorShape& shape, Word** out) {
    Tensor* tensor = nullptr;
    TF_RETURN_IF_ERROR(context->allocate_output(index, shape, &tensor));
    *out = static_cast<Word*>(tensor->data());
    return OkStatus();
  }

  static Status RequireShape(OpKernelContext* context, int index, const TensorShape& shape) {
    if (context->input(index).shape() == shape) return OkStatus();
    return InvalidArgument("input ", index, " must have shape ", shape.DebugString(), ", and has ",
                           context->input(index).shape().DebugString());
  }

  static TensorShape WithPlaces(TensorShape shape) {
    shape.AddDim(kPlaces);
    return shape;
  }

  // Runs body(at, count) on pieces of `total` numbers; each starts with a block.
  template <typename Body>
  static void ForPieces(OpKernelContext* context, int64_t total, int64_t cost, Body body) {
    static_assert(kPiece % kRows == 0, "a piece is whole blocks");
    Parallel(context, (total + kPiece - 1) / kPiece, cost * kPiece,
             [&](int64_t first, int64_t last) {
               Pieces(first * kPiece, std::min(last * kPiece, total), body);
             });
  }

  // Runs body(start, rows) on the blocks of a piece.
  template <typename Body>
  static void ForBlocks(int64_t at, int64_t count, Body body) {
    for (int64_t start = at; start < at + count; start += kRows) {
      body(start, static_cast<int>(std::min<int64_t>(kRows, at + count - start)));
    }
  }

  int64_t step_ = 0;
};

// Server 2 draws its shares of a mask r = r0 + r1 from the keys 02 and 12. It shares the lower 63
// bits of r modulo 127: server 0 draws its share from key 02, and `bits` goes to server 1.
class CompareDealOp : public StepOp {
 public:
  explicit CompareDealOp(OpKernelConstruction* context) : StepOp(context) {
    OP_REQUIRES_OK(context, context->GetAttr("shape", &shape_));
  }
  void Compute(OpKernelContext* context) override {
    Stream mask0, mask1;
    FieldStream share0;
    OP_REQUIRES_OK(context, SharedStream(context, 0, step_, kMaskPart, &mask0));
    OP_REQUIRES_OK(context, SharedStream(context, 1, step_, kMaskPart, &mask1));
    OP_REQUIRES_OK(context, FieldStream::Make(context, 0, step_, kBitsPart, kBitsAgainPart,
                                              /*nonzero=*/false, &share0));
    uint64_t* r = nullptr;
    uint8_t* bits = nullptr;
    OP_REQUIRES_OK(context, Out(context, 0, shape_, &r));
    OP_REQUIRES_OK(context, Out(context, 1, WithPlaces(shape_), &bits));
    ForPieces(context, shape_.num_elements(), 150, [&](int64_t at, int64_t count) {
      uint64_t r1[kPiece];
      Draw(mask0, at, count, r + at);
      Draw(mask1, at, count, r1);
      for (int64_t i = 0; i < count; ++i) r[at + i] += r1[i];
      ForBlocks(at, count, [&](int64_t start, int rows) {
        uint8_t planes[8 * kRows], block[kBlock];
        BytePlanes(r + start, rows, planes);
        for (int row = 0; row < kRows; ++row) planes[7 * kRows + row] &= 127;
        share0.Draw(start / kRows, block);
        OtherShare(planes, block);
        Store(block, rows, bits + start * kPlaces);
      });
    });
  }

 private:
  TensorShape shape_;
};

// Server j masks its share of x with its share of r, drawn from key j2, and sends it to the other.
class CompareMaskOp : public StepOp {
 public:
  using StepOp::StepOp;
  void Compute(OpKernelContext* context) override {
    Stream mask;
    OP_REQUIRES_OK(context, SharedStream(context, 1, step_, kMaskPart, &mask));
    const TensorShape& shape = context->input(0).shape();
    uint64_t* c = nullptr;
    OP_REQUIRES_OK(context, Out(context, 0, shape, &c));
    const auto* x = In<uint64_t>(context, 0);
    ForPieces(context, shape.num_elements(), 20, [&](int64_t at, int64_t count) {
      Draw(mask, at, count, c + at);
      for (int64_t i = at; i < at + count; ++i) c[i] += x[i];
    });
  }
};

// Servers 0 and 1 compare the lower 63 bits of r with those of c = x + r, each on its share of the
// bits of r. A secret bit of key 01 says whether they ask for r > c or for c >= r, that is
// c + 1 > r. What they send to server 2 is a row of 64 numbers with one zero or none.
//
// Server 2 knows r and both shares of its bits, so it must get nothing else from a row than whether
// there is a zero. The rows' places are moved at random, the numbers multiplied by random factors,
// and the shares made anew by adding z to one and taking it from the other, all from key 01.
template <int server>
class CompareShareOp : public StepOp {
 public:
  using StepOp::StepOp;
  void Compute(OpKernelContext* context) override {
    const TensorShape& shape = context->input(0).shape();
    OP_REQUIRES_OK(context, RequireShape(context, 1, shape));
    FieldStream factors, zeros, share0;
    OP_REQUIRES_OK(context, FieldStream::Make(context, 2, step_, kFactorsPart, kFactorsAgainPart,
                                              /*nonzero=*/true, &factors));
    OP_REQUIRES_OK(context, FieldStream::Make(context, 2, step_, kZerosPart, kZerosAgainPart,
                                              /*nonzero=*/false, &zeros));
    const uint8_t* bits = nullptr;
    if (server == 0) {
      OP_REQUIRES_OK(context, FieldStream::Make(context, 3, step_, kBitsPart, kBitsAgainPart,
                                                /*nonzero=*/false, &share0));
    } else {
      OP_REQUIRES_OK(context, RequireShape(context, 3, WithPlaces(shape)));
      bits = In<uint8_t>(context, 3);
    }
    uint8_t* row = nullptr;
    uint64_t* c = nullptr;
    bool* v = nullptr;
    OP_REQUIRES_OK(context, Out(context, 0, WithPlaces(shape), &row));
    OP_REQUIRES_OK(context, Out(context, 1, shape, &c));
    OP_REQUIRES_OK(context, Out(context, 2, shape, &v));
    const auto *c0 = In<uint64_t>(context, 0), *c1 = In<uint64_t>(context, 1);
    ForPieces(context, shape.num_elements(), 300, [&](int64_t at, int64_t count) {
      ForBlocks(at, count, [&](int64_t start, int rows) {
        uint8_t block[kBlock], random[kBlock], more[kBlock], planes[8 * kRows];
        uint8_t secret[7 * kRows];  // six bits to move places by, and the direction to compare in
        const uint8_t* negate = secret + 6 * kRows;
        factors.Draw(start / kRows, random, secret, 7);
        uint64_t s[kRows];
        for (int i = 0; i < rows; ++i) {
          const uint64_t sum = c0[start + i] + c1[start + i];
          c[start + i] = sum;
          v[start + i] = (sum >> 63) ^ (negate[i] & 1);
          s[i] = (sum & ~(uint64_t{1} << 63)) + (negate[i] & 1);  // in 64 bits: it never wraps
        }
        BytePlanes(s, rows, planes);
        if (server == 0) {
          share0.Draw(start / kRows, block);
        } else {
          Load(bits + start * kPlaces, rows, block);
        }
        Compare(planes, negate, server == 0 ? 1 : 0, block);
        Move(secret, block);
        zeros.Draw(start / kRows, more);
        Hide(random, more, server == 1, block);
        Store(block, rows, row + start * kPlaces);
      });
    });
  }
};

// Server 2 finds the rows with a zero. The sign of x is u xor v, with u = (r's top bit xor whether
// there is a zero) known to it and v = (c's top bit xor the secret bit) to the others. It shares u
// and u r, server 0's shares drawn from key 02.
class CompareOpenOp : public StepOp {
 public:
  using StepOp::StepOp;
  void Compute(OpKernelContext* context) override {
    const TensorShape& shape = context->input(2).shape();
    for (int i = 0; i < 2; ++i)
      OP_REQUIRES_OK(context, RequireShape(context, i, WithPlaces(shape)));
    Stream found_key, product_key;
    OP_REQUIRES_OK(context, SharedStream(context, 3, step_, kFoundPart, &found_key));
    OP_REQUIRES_OK(context, SharedStream(context, 3, step_, kProductPart, &product_key));
    uint64_t *u = nullptr, *ur = nullptr;
    OP_REQUIRES_OK(context, Out(context, 0, shape, &u));
    OP_REQUIRES_OK(context, Out(context, 1, shape, &ur));
    const auto *d0 = In<uint8_t>(context, 0), *d1 = In<uint8_t>(context, 1);
    const auto* r = In<uint64_t>(context, 2);
    ForPieces(context, shape.num_elements(), 60, [&](int64_t at, int64_t count) {
      uint8_t found[kPiece];
      ForBlocks(at, count, [&](int64_t start, int rows) {
        uint8_t* to = found + (start - at);
        if (rows == kRows) {
          FindZeros(d0 + start * kPlaces, d1 + start * kPlaces, to);
        } else {
          uint8_t block0[kBlock], block1[kBlock];
          Load(d0 + start * kPlaces, rows, block0);
          Load(d1 + start * kPlaces, rows, block1);
          FindZeros(block0, block1, to);
        }
      });
      Draw(found_key, at, count, u + at);
      Draw(product_key, at, count, ur + at);
      for (int64_t i = 0; i < count; ++i) {
        const uint64_t bit = (r[at + i] >> 63) ^ found[i];
        u[at + i] = bit - u[at + i];
        ur[at + i] = bit * r[at + i] - ur[at + i];
      }
    });
  }
};

// Servers 0 and 1 have shares of the sign, u + v - 2 u v, and of its product with x = c - r.
template <int server>
class CompareFinishOp : public StepOp {
 public:
  using StepOp::StepOp;
  void Compute(OpKernelContext* context) override {
    const TensorShape& shape = context->input(0).shape();
    for (int i = 1; i < (server == 0 ? 3 : 5); ++i) {
      OP_REQUIRES_OK(context, RequireShape(context, i, shape));
    }
    Stream found_key, product_key;
    if (server == 0) {
      OP_REQUIRES_OK(context, SharedStream(context, 3, step_, kFoundPart, &found_key));
      OP_REQUIRES_OK(context, SharedStream(context, 3, step_, kProductPart, &product_key));
    }
    uint64_t *sign = nullptr, *product = nullptr;
    OP_REQUIRES_OK(context, Out(context, 0, shape, &sign));
    OP_REQUIRES_OK(context, Out(context, 1, shape, &product));
    const auto *c = In<uint64_t>(context, 0), *x = In<uint64_t>(context, 2);
    const auto* v = In<bool>(context, 1);
    ForPieces(context, shape.num_elements(), 20, [&](int64_t at, int64_t count) {
      if (server == 0) {
        Draw(found_key, at, count, sign + at);
        Draw(product_key, at, count, product + at);
      } else {
        std::copy_n(In<uint64_t>(context, 3) + at, count, sign + at);
        std::copy_n(In<uint64_t>(context, 4) + at, count, product + at);
      }
      for (int64_t i = at; i < at + count; ++i) {
        const uint64_t u = sign[i], ux = u * c[i] - product[i];
        sign[i] = v[i] ? (server == 0 ? 1 : 0) - u : u;
        product[i] = v[i] ? x[i] - ux : ux;
      }
    });
  }
};

// Numbers that whoever has the key can draw.
class CommonNumbersOp : public StepOp {
 public:
  explicit CommonNumbersOp(OpKernelConstruction* context) : StepOp(context) {
    OP_REQUIRES_OK(context, context->GetAttr("shape", &shape_));
    OP_REQUIRES_OK(context, context->GetAttr("part", &part_));
  }
  void Compute(OpKernelContext* context) override {
    Stream stream;
    OP_REQUIRES_OK(context, SharedStream(context, 0, step_, part_, &stream));
    uint64_t* numbers = nullptr;
    OP_REQUIRES_OK(context, Out(context, 0, shape_, &numbers));
    ForPieces(context, shape_.num_elements(), 15,
              [&](int64_t at, int64_t count) { Draw(stream, at, count, numbers + at); });
  }

 private:
  TensorShape shape_;
  int part_ = 0;
};

// --- Registration --------------------------------------------------------------------------------

Status NumberShape(InferenceContext* context) {
  tensorflow::PartialTensorShape shape;
  ShapeHandle numbers;
  TF_RETURN_IF_ERROR(context->GetAttr("shape", &shape));
  TF_RETURN_IF_ERROR(context->MakeShapeFromPartialTensorShape(shape, &numbers));
  context->set_output(0, numbers);
  return OkStatus();
}

Status DealShapes(InferenceContext* context) {
  TF_RETURN_IF_ERROR(NumberShape(context));
  const ShapeHandle numbers = context->output(0);
  ShapeHandle bits;
  TF_RETURN_IF_ERROR(context->Concatenate(numbers, context->Vector(kPlaces), &bits));
  context->set_output(1, bits);
  return OkStatus();
}

Status RowShapes(InferenceContext* context) {
  ShapeHandle rows;
  TF_RETURN_IF_ERROR(context->Concatenate(context->input(0), context->Vector(kPlaces), &rows));
  context->set_output(0, rows);
  context->set_output(1, context->input(0));
  context->set_output(2, context->input(0));
  return OkStatus();
}

// All outputs have the shape of input `like`.
template <int like>
Status ShapesLike(InferenceContext* context) {
  for (int i = 0; i < context->num_outputs(); ++i) context->set_output(i, context->input(like));
  return OkStatus();
}

REGISTER_OP("CompareDeal")
    .Input("key02: int32")
    .Input("key12: int32")
    .Attr("shape: shape")
    .Attr("step: int")
    .Output("r: int64")
    .Output("bits: uint8")
    .SetShapeFn(DealShapes);
REGISTER_OP("CompareMask")
    .Input("x: int64")
    .Input("key: int32")
    .Attr("step: int")
    .Output("c: int64")
    .SetShapeFn(ShapesLike<0>);
REGISTER_OP("CompareShare0")
    .Input("c0: int64")
    .Input("c1: int64")
    .Input("key01: int32")
    .Input("key02: int32")
    .Attr("step: int")
    .Output("row: uint8")
    .Output("c: int64")
    .Output("v: bool")
    .SetShapeFn(RowShapes);
REGISTER_OP("CompareShare1")
    .Input("c0: int64")
    .Input("c1: int64")
    .Input("key01: int32")
    .Input("bits: uint8")
    .Attr("step: int")
    .Output("row: uint8")
    .Output("c: int64")
    .Output("v: bool")
    .SetShapeFn(RowShapes);
REGISTER_OP("CompareOpen")
    .Input("row0: uint8")
    .Input("row1: uint8")
    .Input("r: int64")
    .Input("key02: int32")
    .Attr("step: int")
    .Output("u1: int64")
    .Output("ur1: int64")
    .SetShapeFn(ShapesLike<2>);
REGISTER_OP("CompareFinish0")
    .Input("c: int64")
    .Input("v: bool")
    .Input("x: int64")
    .Input("key02: int32")
    .Attr("step: int")
    .Output("sign: int64")
    .Output("product: int64")
    .SetShapeFn(ShapesLike<0>);
REGISTER_OP("CompareFinish1")
    .Input("c: int64")
    .Input("v: bool")
    .Input("x: int64")
    .Input("u1: int64")
    .Input("ur1: int64")
    .Attr("step: int")
    .Output("sign: int64")
    .Output("product: int64")
    .SetShapeFn(ShapesLike<0>);
REGISTER_OP("CommonNumbers")
    .Input("key: int32")
    .Attr("shape: shape")
    .Attr("step: int")
    .Attr("part: int >= 0")
    .Output("numbers: int64")
    .SetShapeFn(NumberShape);

#define REGISTER_KERNEL(name, ...) \
  REGISTER_KERNEL_BUILDER(Name(#name).Device(DEVICE_CPU), __VA_ARGS__)
REGISTER_KERNEL(CompareDeal, CompareDealOp);
REGISTER_KERNEL(CompareMask, CompareMaskOp);
REGISTER_KERNEL(CompareShare0, CompareShareOp<0>);
REGISTER_KERNEL(CompareShare1, CompareShareOp<1>);
REGISTER_KERNEL(CompareOpen, CompareOpenOp);
REGISTER_KERNEL(CompareFinish0, CompareFinishOp<0>);
REGISTER_KERNEL(CompareFinish1, CompareFinishOp<1>);
REGISTER_KERNEL(CommonNumbers, CommonNumbersOp);
#undef REGISTER_KERNEL

}  // namespace
}  // namespace tfpriv
