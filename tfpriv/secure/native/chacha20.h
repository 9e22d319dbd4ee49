// ChaCha20 (RFC 8439, section 2.3) as a stream of random words that can be read from any place.
#ifndef TFPRIV_SECURE_NATIVE_CHACHA20_H_
#define TFPRIV_SECURE_NATIVE_CHACHA20_H_

#include <cstdint>

namespace tfpriv {

// A stream: 256 bits of key and 96 bits of nonce, as little-endian words.
struct Stream {
  uint32_t key[8];
  uint32_t nonce[3];
};

constexpr int64_t kBlockBytes = 64;

// Writes bytes [first, first + count) of the stream. A stream has 2^32 blocks, 256 GiB.
void ReadStream(const Stream& stream, int64_t first, int64_t count, void* out);

}  // namespace tfpriv

#endif  // TFPRIV_SECURE_NATIVE_CHACHA20_H_
