// Matrix products modulo 2^64.
#ifndef TFPRIV_SECURE_NATIVE_INT64_GEMM_H_
#define TFPRIV_SECURE_NATIVE_INT64_GEMM_H_

#include <cstdint>
#include <functional>

namespace tfpriv {

// The tile that the innermost loop holds in registers: kTileRows x kTileColumns results.
constexpr int kTileRows = 6;
constexpr int kTileColumns = 16;
// How many terms of the sums are packed at a time.
constexpr int64_t kDepth = 256;

// Writes a part of a matrix in the order in which the innermost loop reads it.
//   Left: element (row + i, depth + k) goes to packed[k * kTileRows + i], for i < kTileRows.
//   Right: element (depth + k, column + j) goes to packed[k * kTileColumns + j], j < kTileColumns.
// What lies outside of the matrix is written as 0. k < count <= kDepth.
typedef std::function<void(int64_t at, int64_t depth, int64_t count, int64_t* packed)> Pack;

// How many int64 the packed right matrix takes.
int64_t PackedRightSize(int64_t depth, int64_t columns);

// Packs the tiles [first, last) of the right matrix; there are ceil(columns / kTileColumns).
void PackRight(int64_t depth, int64_t first, int64_t last, const Pack& pack, int64_t* packed);

// Computes rows [first, last) of the product, `first` a multiple of kTileRows, and gives each tile
// to `store(row, column, tile)`, where tile[i * kTileColumns + j] is result (row + i, column + j).
typedef std::function<void(int64_t row, int64_t column, const int64_t* tile)> Store;
void Multiply(int64_t first, int64_t last, int64_t depth, int64_t columns, const Pack& left,
              const int64_t* packed_right, const Store& store);

}  // namespace tfpriv

#endif  // TFPRIV_SECURE_NATIVE_INT64_GEMM_H_
