#include "int64_gemm.h"

#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace tfpriv {
namespace {

constexpr int kTile = kTileRows * kTileColumns;

// Adds left^T * right to the tile; left is count x kTileRows, right count x kTileColumns.
typedef void (*Kernel)(const int64_t* left, const int64_t* right, int64_t count, int64_t* tile);

void MultiplyTile(const int64_t* left, const int64_t* right, int64_t count, int64_t* tile) {
  for (int64_t k = 0; k < count; ++k) {
    for (int i = 0; i < kTileRows; ++i) {
      const uint64_t a = left[k * kTileRows + i];
      for (int j = 0; j < kTileColumns; ++j) {
        tile[i * kTileColumns + j] += a * static_cast<uint64_t>(right[k * kTileColumns + j]);
      }
    }
  }
}

__attribute__((target("avx512f,avx512dq"))) void MultiplyTileAvx512(const int64_t* left,
                                                                    const int64_t* right,
                                                                    int64_t count, int64_t* tile) {
  __m512i sums[kTileRows][2];
  for (int i = 0; i < kTileRows; ++i) {
    sums[i][0] = _mm512_loadu_si512(tile + i * kTileColumns);
    sums[i][1] = _mm512_loadu_si512(tile + i * kTileColumns + 8);
  }
  for (int64_t k = 0; k < count; ++k) {
    const __m512i b0 = _mm512_loadu_si512(right + k * kTileColumns);
    const __m512i b1 = _mm512_loadu_si512(right + k * kTileColumns + 8);
    for (int i = 0; i < kTileRows; ++i) {
      const __m512i a = _mm512_set1_epi64(left[k * kTileRows + i]);
      sums[i][0] = _mm512_add_epi64(sums[i][0], _mm512_mullo_epi64(a, b0));
      sums[i][1] = _mm512_add_epi64(sums[i][1], _mm512_mullo_epi64(a, b1));
    }
  }
  for (int i = 0; i < kTileRows; ++i) {
    _mm512_storeu_si512(tile + i * kTileColumns, sums[i][0]);
    _mm512_storeu_si512(tile + i * kTileColumns + 8, sums[i][1]);
  }
}

// AVX2 multiplies 32-bit halves only: a * b = low(a) low(b) + 2^32 (low(a) high(b) + high(a)
// low(b)) modulo 2^64. The two kinds of product are summed apart, and the second is shifted once.
__attribute__((target("avx2"))) void MultiplyTileAvx2(const int64_t* left, const int64_t* right,
                                                      int64_t count, int64_t* tile) {
  constexpr int kRows = 3;  // 3 x 2 vectors of sums, twice, fit the 16 registers
  for (int row = 0; row < kTileRows; row += kRows) {
    for (int column = 0; column < kTileColumns; column += 8) {
      __m256i low[kRows][2], high[kRows][2];
      for (int i = 0; i < kRows; ++i) {
        for (int j = 0; j < 2; ++j) low[i][j] = high[i][j] = _mm256_setzero_si256();
      }
      for (int64_t k = 0; k < count; ++k) {
        const int64_t* b = right + k * kTileColumns + column;
        for (int j = 0; j < 2; ++j) {
          const __m256i b_low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + 4 * j));
          const __m256i b_high = _mm256_srli_epi64(b_low, 32);
          for (int i = 0; i < kRows; ++i) {
            const __m256i a_low = _mm256_set1_epi64x(left[k * kTileRows + row + i]);
            const __m256i a_high = _mm256_srli_epi64(a_low, 32);
            low[i][j] = _mm256_add_epi64(low[i][j], _mm256_mul_epu32(a_low, b_low));
            high[i][j] = _mm256_add_epi64(high[i][j], _mm256_mul_epu32(a_low, b_high));
            high[i][j] = _mm256_add_epi64(high[i][j], _mm256_mul_epu32(a_high, b_low));
          }
        }
      }
      for (int i = 0; i < kRows; ++i) {
        for (int j = 0; j < 2; ++j) {
          auto* at = reinterpret_cast<__m256i*>(tile + (row + i) * kTileColumns + column + 4 * j);
          const __m256i sum = _mm256_add_epi64(low[i][j], _mm256_slli_epi64(high[i][j], 32));
          _mm256_storeu_si256(at, _mm256_add_epi64(_mm256_loadu_si256(at), sum));
        }
      }
    }
  }
}

Kernel ChooseKernel() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) {
    return MultiplyTileAvx512;
  }
  return __builtin_cpu_supports("avx2") ? MultiplyTileAvx2 : MultiplyTile;
}

int64_t Tiles(int64_t columns) { return (columns + kTileColumns - 1) / kTileColumns; }

}  // namespace

int64_t PackedRightSize(int64_t depth, int64_t columns) {
  return depth * Tiles(columns) * kTileColumns;
}

void PackRight(int64_t depth, int64_t first, int64_t last, const Pack& pack, int64_t* packed) {
  for (int64_t tile = first; tile < last; ++tile) {
    for (int64_t start = 0; start < depth; start += kDepth) {
      pack(tile * kTileColumns, start, std::min(kDepth, depth - start),
           packed + (tile * depth + start) * kTileColumns);
    }
  }
}

void Multiply(int64_t first, int64_t last, int64_t depth, int64_t columns, const Pack& left,
              const int64_t* packed_right, const Store& store) {
  static const Kernel kernel = ChooseKernel();
  // So many tile rows are packed before they meet the columns, for each packed column to be read
  // from memory once for all of them.
  constexpr int64_t kBlock = 8;
  const int64_t size = depth * kTileRows;
  std::vector<int64_t> rows(kBlock * size);
  alignas(64) int64_t tile[kTile];
  for (int64_t block = first; block < last; block += kBlock * kTileRows) {
    const int64_t end = std::min(last, block + kBlock * kTileRows);
    int64_t* packed = rows.data();
    for (int64_t row = block; row < end; row += kTileRows, packed += size) {
      for (int64_t start = 0; start < depth; start += kDepth) {
        left(row, start, std::min(kDepth, depth - start), packed + start * kTileRows);
      }
    }
    for (int64_t column = 0; column < columns; column += kTileColumns) {
      packed = rows.data();
      for (int64_t row = block; row < end; row += kTileRows, packed += size) {
        std::memset(tile, 0, sizeof(tile));
        kernel(packed, packed_right + column * depth, depth, tile);
        store(row, column, tile);
      }
    }
  }
}

}  // namespace tfpriv
