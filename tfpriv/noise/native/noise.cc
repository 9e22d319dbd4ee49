// The two loops over all numbers of a step: words to noise, and noise onto a sum.

#include <algorithm>
#include <cmath>
#include <cstdint>

// GCC vectorizes the loops and picks at run time what the processor has.
#define CLONED __attribute__((target_clones("avx2", "default")))

namespace {

// As in tfpriv/noise/discrete_gaussian.py.
constexpr int kLevels = 3;
constexpr int kBaseBits = 8;
constexpr int kIndexBits = 15;

constexpr uint32_t kIndexMask = (1u << kIndexBits) - 1;
constexpr int64_t kBlock = 256;

constexpr int64_t Middle() {
  int64_t sum = 0;
  for (int level = 0; level < kLevels; ++level) {
    sum += int64_t{1} << (kIndexBits - 1 + kBaseBits * level);
  }
  return sum;
}

template <typename T>
__attribute__((always_inline)) inline void Release(const T* __restrict total,
                                                   const int64_t* __restrict noise, int64_t size,
                                                   double width, T* __restrict released) {
  const double per_step = 1 / width;
  for (int64_t i = 0; i < size; ++i) {
    const double steps = std::rint(static_cast<double>(total[i]) * per_step);
    released[i] = static_cast<T>(width * (steps + static_cast<double>(noise[i])));
  }
}

}  // namespace

extern "C" {

// Writes a number for each column of words [kLevels, size] and returns for how many of them a word
// tied with its threshold. Those stand in `tied` [size], and what was written for them is not
// valid.
CLONED __attribute__((visibility("default"))) int64_t combine(const uint32_t* __restrict words,
                                                              int64_t size,
                                                              const uint32_t* __restrict table,
                                                              int64_t* __restrict numbers,
                                                              int64_t* __restrict tied) {
  int64_t ties = 0;
  uint32_t is_tied[kBlock];
  for (int64_t start = 0; start < size; start += kBlock) {
    const int64_t count = std::min(kBlock, size - start);
    uint32_t any = 0;
    for (int64_t i = 0; i < count; ++i) {
      uint64_t sum = 0;
      uint32_t tie = 0;
#pragma GCC unroll 3
      for (int level = 0; level < kLevels; ++level) {
        const uint32_t word = words[level * size + start + i];
        const uint32_t index = word & kIndexMask;
        const uint32_t entry = table[index];
        const uint32_t share = word >> kIndexBits, threshold = entry >> kIndexBits;
        tie |= -static_cast<uint32_t>(share == threshold);
        // Masks and no branch, which a processor could not foresee.
        const uint32_t own = -static_cast<uint32_t>(share < threshold);
        const uint32_t value = (index & own) | (entry & kIndexMask & ~own);
        sum += static_cast<uint64_t>(value) << (kBaseBits * level);
      }
      numbers[start + i] = static_cast<int64_t>(sum) - Middle();
      is_tied[i] = tie;
      any |= tie;
    }
    if (any) {
      for (int64_t i = 0; i < count; ++i) {
        if (is_tied[i]) tied[ties++] = start + i;
      }
    }
  }
  return ties;
}

// Writes width * (round(total / width) + noise), computed in double.
CLONED __attribute__((visibility("default"))) void release_float(const float* total,
                                                                 const int64_t* noise, int64_t size,
                                                                 double width, float* released) {
  Release(total, noise, size, width, released);
}

CLONED __attribute__((visibility("default"))) void release_double(const double* total,
                                                                  const int64_t* noise,
                                                                  int64_t size, double width,
                                                                  double* released) {
  Release(total, noise, size, width, released);
}

}  // extern "C"
