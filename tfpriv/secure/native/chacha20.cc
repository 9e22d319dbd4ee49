#include "chacha20.h"

#include <algorithm>
#include <cstring>

namespace tfpriv {
namespace {

// Sixteen blocks are made at once, one in each lane; the compiler splits the vector into what the
// processor has, and the loader picks the clone.
constexpr int kLanes = 16;
typedef uint32_t Lanes __attribute__((vector_size(4 * kLanes)));

inline __attribute__((always_inline)) Lanes Rotate(Lanes x, int n) {
  return (x << n) | (x >> (32 - n));
}

inline __attribute__((always_inline)) void QuarterRound(Lanes& a, Lanes& b, Lanes& c, Lanes& d) {
  a += b;
  d = Rotate(d ^ a, 16);
  c += d;
  b = Rotate(b ^ c, 12);
  a += b;
  d = Rotate(d ^ a, 8);
  c += d;
  b = Rotate(b ^ c, 7);
}

// Writes kLanes blocks, from block number `block` on.
__attribute__((target_clones("avx512f", "avx2", "default"))) void MakeBlocks(const Stream& stream,
                                                                             uint32_t block,
                                                                             uint32_t* out) {
  const uint32_t constants[4] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
  Lanes start[16];
  for (int i = 0; i < 4; ++i) start[i] = Lanes{} + constants[i];
  for (int i = 0; i < 8; ++i) start[4 + i] = Lanes{} + stream.key[i];
  for (int lane = 0; lane < kLanes; ++lane) start[12][lane] = block + lane;
  for (int i = 0; i < 3; ++i) start[13 + i] = Lanes{} + stream.nonce[i];
  Lanes s[16];
  for (int i = 0; i < 16; ++i) s[i] = start[i];
  for (int round = 0; round < 10; ++round) {
    QuarterRound(s[0], s[4], s[8], s[12]);
    QuarterRound(s[1], s[5], s[9], s[13]);
    QuarterRound(s[2], s[6], s[10], s[14]);
    QuarterRound(s[3], s[7], s[11], s[15]);
    QuarterRound(s[0], s[5], s[10], s[15]);
    QuarterRound(s[1], s[6], s[11], s[12]);
    QuarterRound(s[2], s[7], s[8], s[13]);
    QuarterRound(s[3], s[4], s[9], s[14]);
  }
  for (int i = 0; i < 16; ++i) s[i] += start[i];
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < 16; ++i) out[16 * lane + i] = s[i][lane];
  }
}

}  // namespace

void ReadStream(const Stream& stream, int64_t first, int64_t count, void* out) {
  constexpr int64_t kGroupBytes = kLanes * kBlockBytes;
  char* to = static_cast<char*>(out);
  alignas(64) uint32_t group[kLanes * 16];
  while (count > 0) {
    const int64_t block = first / kBlockBytes;
    const int64_t skip = first % kBlockBytes;
    const int64_t taken = std::min(count, kGroupBytes - skip);
    if (taken == kGroupBytes && reinterpret_cast<uintptr_t>(to) % 4 == 0) {
      MakeBlocks(stream, static_cast<uint32_t>(block), reinterpret_cast<uint32_t*>(to));
    } else {
      MakeBlocks(stream, static_cast<uint32_t>(block), group);
      std::memcpy(to, reinterpret_cast<const char*>(group) + skip, taken);
    }
    first += taken;
    count -= taken;
    to += taken;
  }
}

}  // namespace tfpriv
