// The numbers that servers have in common: streams of a key that two of them hold.
#ifndef TFPRIV_SECURE_NATIVE_SHARES_H_
#define TFPRIV_SECURE_NATIVE_SHARES_H_

#include <algorithm>

#include "ops.h"

namespace tfpriv {

// The last word of the nonces here; the streams of random_ops.cc have others.
constexpr uint32_t kSharesNonce = 0x72616873;

// Within a step, so many things can be drawn.
constexpr int kMostParts = 256;
// Of a step in which a key gives one thing.
constexpr int kOnlyPart = 0;

// Reads the stream of a key that is input `index`, for the protocol's step number `step`. Within a
// step, `part` tells what is drawn.
inline Status SharedStream(OpKernelContext* context, int index, int64_t step, int part,
                           Stream* stream) {
  if (step < 0 || step >> 56 != 0 || part < 0 || part >= kMostParts) {
    return InvalidArgument("step ", step, " and part ", part, " name no stream");
  }
  TF_RETURN_IF_ERROR(SeedToKey(context->input(index), stream));
  stream->nonce[0] = static_cast<uint32_t>(step);
  stream->nonce[1] = static_cast<uint32_t>(step >> 32) | static_cast<uint32_t>(part) << 24;
  stream->nonce[2] = kSharesNonce;
  return OkStatus();
}

// Elements are worked on in pieces that stay in the first cache together with their randomness.
constexpr int64_t kPiece = 512;

// Runs body(start, count) on pieces of [first, last).
template <typename Body>
void Pieces(int64_t first, int64_t last, Body body) {
  for (int64_t start = first; start < last; start += kPiece) {
    body(start, std::min(kPiece, last - start));
  }
}

// Reads elements [start, start + count) of a stream of Words.
template <typename Word>
void Draw(const Stream& stream, int64_t start, int64_t count, Word* out) {
  ReadStream(stream, start * sizeof(Word), count * sizeof(Word), out);
}

}  // namespace tfpriv

#endif  // TFPRIV_SECURE_NATIVE_SHARES_H_
