// Matrix products and convolutions modulo 2^64: of plain tensors, and the part of a product of
// shares that a server computes by itself.
//
// ABY3's servers hold x = x0 + x1 + x2 and y = y0 + y1 + y2 as the pairs (x0, x1), (x1, x2) and
// (x2, x0). Server i computes xi yi + xi yi+1 + xi+1 yi, which is xi (yi + yi+1) + xi+1 yi: one
// product of [xi | xi+1] with [yi + yi+1 ; yi], of twice the depth. To it comes the server's share
// of zero, the difference of two streams.

#include <memory>

#include "int64_gemm.h"
#include "shares.h"

namespace tfpriv {
namespace {

const int64_t* Data(const Tensor& tensor) { return static_cast<const int64_t*>(tensor.data()); }

// How the rows of the left matrix lie in a tensor: row r, term k is at offset(r, k), -1 for 0.
// A matrix is an image of one pixel a row, so that one form does for both.
struct Rows {
  int64_t rows, depth;              // of the left matrix
  int64_t height, width, channels;  // of the image
  int64_t out_height, out_width;
  int64_t kernel_width;
  int64_t stride_rows, stride_columns, pad_top, pad_left;
  int64_t step_image, step_row, step_column, step_channel;  // between neighbors in the tensor
};

// Writes rows [row, row + kTileRows), terms [depth, depth + count) of `from`.
void PackRows(const Rows& m, const int64_t* from, int64_t row, int64_t depth, int64_t count,
              int64_t* packed) {
  for (int i = 0; i < kTileRows; ++i) {
    int64_t* to = packed + i;
    if (row + i >= m.rows) {
      for (int64_t k = 0; k < count; ++k) to[k * kTileRows] = 0;
      continue;
    }
    const int64_t pixels = m.out_height * m.out_width;
    const int64_t image = (row + i) / pixels, pixel = (row + i) % pixels;
    const int64_t top = pixel / m.out_width * m.stride_rows - m.pad_top;
    const int64_t left = pixel % m.out_width * m.stride_columns - m.pad_left;
    int64_t channel = depth % m.channels;
    int64_t x = depth / m.channels % m.kernel_width;
    int64_t y = depth / m.channels / m.kernel_width;
    for (int64_t k = 0; k < count;) {
      const int64_t run = std::min(count - k, m.channels - channel);
      const int64_t at_row = top + y, at_column = left + x;
      if (at_row < 0 || at_row >= m.height || at_column < 0 || at_column >= m.width) {
        for (int64_t c = 0; c < run; ++c) to[(k + c) * kTileRows] = 0;
      } else {
        const int64_t* pixel_data = from + image * m.step_image + at_row * m.step_row +
                                    at_column * m.step_column + channel * m.step_channel;
        for (int64_t c = 0; c < run; ++c) to[(k + c) * kTileRows] = pixel_data[c * m.step_channel];
      }
      k += run;
      channel = 0;
      if (++x == m.kernel_width) {
        x = 0;
        ++y;
      }
    }
  }
}

// In the ring modulo 2^64; signed numbers of C++ may not overflow.
inline int64_t Sum(int64_t x, int64_t y) { return static_cast<uint64_t>(x) + y; }
inline int64_t Difference(int64_t x, int64_t y) { return static_cast<uint64_t>(x) - y; }

// Writes columns [column, column + kTileColumns), terms [depth, depth + count) of the matrix `y`,
// or of y + y_next if that is given.
void PackColumns(const int64_t* y, const int64_t* y_next, int64_t columns, int64_t column,
                 int64_t depth, int64_t count, int64_t* packed) {
  const int64_t width = std::min<int64_t>(kTileColumns, columns - column);
  for (int64_t k = 0; k < count; ++k, packed += kTileColumns) {
    const int64_t at = (depth + k) * columns + column;
    if (y_next == nullptr) {
      std::memcpy(packed, y + at, width * sizeof(int64_t));
    } else {
      for (int64_t j = 0; j < width; ++j) packed[j] = Sum(y[at + j], y_next[at + j]);
    }
    for (int64_t j = width; j < kTileColumns; ++j) packed[j] = 0;
  }
}

// Adds x * (y + y_next) + x_next * y to a row of `count` sums; y_next may be missing, with x_next.
__attribute__((target_clones("avx512f", "avx2", "default"))) void AddRow(
    uint64_t x, uint64_t x_next, const int64_t* y, const int64_t* y_next, int64_t count,
    int64_t* sums) {
  if (y_next == nullptr) {
    for (int64_t j = 0; j < count; ++j) sums[j] = sums[j] + x * y[j];
  } else {
    const uint64_t both = x + x_next;
    for (int64_t j = 0; j < count; ++j) sums[j] = sums[j] + (both * y[j] + x * y_next[j]);
  }
}

// The two kinds of product: of tensors x and y, or of the shares (x, x_next) and (y, y_next).
struct Factors {
  const int64_t *x, *x_next, *y, *y_next;
  bool shared() const { return x_next != nullptr; }
};

// Computes the product. Result (row, column) goes to (row / pixels) * step_image + (row % pixels) *
// step_row + column * step_column. If the factors are shared, `zero` holds two streams whose
// difference is added.
struct Layout {
  int64_t pixels, step_image, step_row, step_column;
};

// So few rows do not pay for packing the right matrix.
constexpr int64_t kFewRows = 3;

void ProductOfFewRows(OpKernelContext* context, const Rows& m, int64_t columns,
                      const Factors& factors, const Stream* zero, int64_t* out) {
  const int64_t strips = (columns + kPiece - 1) / kPiece;
  Parallel(context, strips, m.rows * m.depth * kPiece, [&](int64_t first, int64_t last) {
    Pieces(first * kPiece, std::min(columns, last * kPiece), [&](int64_t column, int64_t count) {
      int64_t mask[kPiece];
      for (int64_t row = 0; row < m.rows; ++row) {
        int64_t* sums = out + row * columns + column;
        std::memset(sums, 0, count * sizeof(int64_t));
        if (zero == nullptr) continue;
        Draw(zero[0], row * columns + column, count, sums);
        Draw(zero[1], row * columns + column, count, mask);
        for (int64_t j = 0; j < count; ++j) sums[j] = Difference(sums[j], mask[j]);
      }
      for (int64_t k = 0; k < m.depth; ++k) {
        const int64_t at = k * columns + column;
        for (int64_t row = 0; row < m.rows; ++row) {
          const int64_t x = factors.x[row * m.depth + k];
          const int64_t x_next = factors.shared() ? factors.x_next[row * m.depth + k] : 0;
          AddRow(x, x_next, factors.y + at, factors.shared() ? factors.y_next + at : nullptr, count,
                 out + row * columns + column);
        }
      }
    });
  });
}

void Product(OpKernelContext* context, const Rows& m, int64_t columns, const Factors& factors,
             const Stream* zero, const Layout& to, int64_t* out) {
  if (m.rows == 0 || columns == 0) return;
  if (m.rows <= kFewRows && to.pixels == 1) {
    ProductOfFewRows(context, m, columns, factors, zero, out);
    return;
  }
  const int64_t depth = factors.shared() ? 2 * m.depth : m.depth;
  std::unique_ptr<int64_t[]> right(new int64_t[PackedRightSize(depth, columns)]);
  const Pack pack_right = [&](int64_t column, int64_t from, int64_t count, int64_t* packed) {
    // The terms of the first half meet y + y_next, those of the second y.
    const int64_t in_first = std::max<int64_t>(0, std::min(count, m.depth - from));
    if (in_first > 0) {
      PackColumns(factors.y, factors.y_next, columns, column, from, in_first, packed);
    }
    if (in_first < count) {
      PackColumns(factors.y, nullptr, columns, column, from + in_first - m.depth, count - in_first,
                  packed + in_first * kTileColumns);
    }
  };
  const Pack pack_left = [&](int64_t row, int64_t from, int64_t count, int64_t* packed) {
    const int64_t in_first = std::max<int64_t>(0, std::min(count, m.depth - from));
    if (in_first > 0) PackRows(m, factors.x, row, from, in_first, packed);
    if (in_first < count) {
      PackRows(m, factors.x_next, row, from + in_first - m.depth, count - in_first,
               packed + in_first * kTileRows);
    }
  };
  const int64_t tiles = (columns + kTileColumns - 1) / kTileColumns;
  Parallel(context, tiles, depth * kTileColumns, [&](int64_t first, int64_t last) {
    PackRight(depth, first, last, pack_right, right.get());
  });
  const int64_t groups = (m.rows + kTileRows - 1) / kTileRows;
  Parallel(context, groups, depth * kTileRows * columns / 4, [&](int64_t first, int64_t last) {
    // The share of zero is drawn for the rows that this thread has, in the order of the rows.
    const int64_t start = first * kTileRows, end = std::min(m.rows, last * kTileRows);
    std::unique_ptr<int64_t[]> mask;
    if (zero != nullptr) {
      const int64_t count = (end - start) * columns;
      mask.reset(new int64_t[count]);
      Draw(zero[0], start * columns, count, mask.get());
      int64_t minus[kPiece];
      Pieces(0, count, [&](int64_t at, int64_t size) {
        Draw(zero[1], start * columns + at, size, minus);
        for (int64_t i = 0; i < size; ++i) mask[at + i] = Difference(mask[at + i], minus[i]);
      });
    }
    const Store store = [&](int64_t row, int64_t column, const int64_t* tile) {
      const int64_t height = std::min<int64_t>(kTileRows, end - row);
      const int64_t width = std::min<int64_t>(kTileColumns, columns - column);
      for (int64_t i = 0; i < height; ++i) {
        const int64_t pixel = (row + i) % to.pixels;
        int64_t* at = out + (row + i) / to.pixels * to.step_image + pixel * to.step_row +
                      column * to.step_column;
        const int64_t* from = tile + i * kTileColumns;
        if (zero == nullptr) {
          for (int64_t j = 0; j < width; ++j) at[j * to.step_column] = from[j];
        } else {
          const int64_t* masks = mask.get() + (row + i - start) * columns + column;
          for (int64_t j = 0; j < width; ++j) at[j * to.step_column] = Sum(from[j], masks[j]);
        }
      }
    };
    Multiply(start, last * kTileRows, depth, columns, pack_left, right.get(), store);
  });
}

Rows MatrixRows(int64_t rows, int64_t depth) {
  Rows m = {};
  m.rows = rows;
  m.depth = m.channels = m.step_image = depth;
  m.height = m.width = m.out_height = m.out_width = m.kernel_width = 1;
  m.step_channel = 1;
  return m;
}

// The ops: kShared tells plain tensors (x, y) from shares (x, x_next, y, y_next, key, key_next).
template <bool kShared>
class ProductOp : public OpKernel {
 public:
  explicit ProductOp(OpKernelConstruction* context) : OpKernel(context) {
    if (kShared) OP_REQUIRES_OK(context, context->GetAttr("step", &step_));
  }

 protected:
  const Tensor& x(OpKernelContext* context) { return context->input(0); }
  const Tensor& y(OpKernelContext* context) { return context->input(kShared ? 2 : 1); }

  Status ReadFactors(OpKernelContext* context, Factors* factors, Stream* zero) {
    if (!kShared) {
      *factors = {Data(x(context)), nullptr, Data(y(context)), nullptr};
      return OkStatus();
    }
    if (context->input(0).shape() != context->input(1).shape() ||
        context->input(2).shape() != context->input(3).shape()) {
      return InvalidArgument("the two shares of a tensor must have one shape");
    }
    *factors = {Data(context->input(0)), Data(context->input(1)), Data(context->input(2)),
                Data(context->input(3))};
    TF_RETURN_IF_ERROR(SharedStream(context, 4, step_, kOnlyPart, &zero[0]));
    return SharedStream(context, 5, step_, kOnlyPart, &zero[1]);
  }

 private:
  int64_t step_ = 0;
};

template <bool kShared>
class MatMulOp : public ProductOp<kShared> {
 public:
  explicit MatMulOp(OpKernelConstruction* context) : ProductOp<kShared>(context) {}
  void Compute(OpKernelContext* context) override {
    const Tensor& x = this->x(context);
    const Tensor& y = this->y(context);
    OP_REQUIRES(context, x.dims() == 2 && y.dims() == 2 && x.dim_size(1) == y.dim_size(0),
                InvalidArgument("matrices of shapes ", x.shape().DebugString(), " and ",
                                y.shape().DebugString(), " have no product"));
    Factors factors;
    Stream zero[2];
    OP_REQUIRES_OK(context, this->ReadFactors(context, &factors, zero));
    const int64_t rows = x.dim_size(0), columns = y.dim_size(1);
    Tensor* out = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({rows, columns}), &out));
    Product(context, MatrixRows(rows, x.dim_size(1)), columns, factors, kShared ? zero : nullptr,
            Layout{1, columns, 0, 1}, out->flat<int64_t>().data());
  }
};

// The size of an output side and what is padded before it, as TensorFlow has them.
Status WindowedSide(int64_t side, int64_t window, int64_t stride, bool same, int64_t* out,
                    int64_t* pad) {
  if (stride < 1) return InvalidArgument("strides must be at least 1, and one is ", stride);
  *out = same ? (side + stride - 1) / stride : (side - window + stride) / stride;
  if (*out < 0) *out = 0;
  *pad = same ? std::max<int64_t>(0, (*out - 1) * stride + window - side) / 2 : 0;
  return OkStatus();
}

template <bool kShared>
class Conv2DOp : public ProductOp<kShared> {
 public:
  explicit Conv2DOp(OpKernelConstruction* context) : ProductOp<kShared>(context) {
    std::string padding, data_format;
    OP_REQUIRES_OK(context, context->GetAttr("strides", &strides_));
    OP_REQUIRES_OK(context, context->GetAttr("padding", &padding));
    OP_REQUIRES_OK(context, context->GetAttr("data_format", &data_format));
    OP_REQUIRES(context, strides_.size() == 2,
                InvalidArgument("strides are two numbers, and here ", strides_.size()));
    same_ = padding == "SAME";
    channels_last_ = data_format == "NHWC";
  }
  void Compute(OpKernelContext* context) override {
    const Tensor& x = this->x(context);
    const Tensor& y = this->y(context);
    OP_REQUIRES(context, x.dims() == 4 && y.dims() == 4,
                InvalidArgument("images and kernels have rank 4, and these have shapes ",
                                x.shape().DebugString(), " and ", y.shape().DebugString()));
    Rows m = {};
    const int64_t images = x.dim_size(0), columns = y.dim_size(3);
    m.height = x.dim_size(channels_last_ ? 1 : 2);
    m.width = x.dim_size(channels_last_ ? 2 : 3);
    m.channels = x.dim_size(channels_last_ ? 3 : 1);
    OP_REQUIRES(
        context, m.channels == y.dim_size(2),
        InvalidArgument("images of ", m.channels, " channels meet kernels for ", y.dim_size(2)));
    m.kernel_width = y.dim_size(1);
    m.stride_rows = strides_[0];
    m.stride_columns = strides_[1];
    OP_REQUIRES_OK(context, WindowedSide(m.height, y.dim_size(0), m.stride_rows, same_,
                                         &m.out_height, &m.pad_top));
    OP_REQUIRES_OK(context, WindowedSide(m.width, y.dim_size(1), m.stride_columns, same_,
                                         &m.out_width, &m.pad_left));
    m.step_image = m.height * m.width * m.channels;
    m.step_row = channels_last_ ? m.width * m.channels : m.width;
    m.step_column = channels_last_ ? m.channels : 1;
    m.step_channel = channels_last_ ? 1 : m.height * m.width;
    const int64_t pixels = m.out_height * m.out_width;
    m.rows = images * pixels;
    m.depth = y.dim_size(0) * y.dim_size(1) * m.channels;
    Factors factors;
    Stream zero[2];
    OP_REQUIRES_OK(context, this->ReadFactors(context, &factors, zero));
    const TensorShape shape = channels_last_
                                  ? TensorShape({images, m.out_height, m.out_width, columns})
                                  : TensorShape({images, columns, m.out_height, m.out_width});
    Tensor* out = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &out));
    const Layout to = channels_last_ ? Layout{pixels, pixels * columns, columns, 1}
                                     : Layout{pixels, pixels * columns, 1, pixels};
    Product(context, m, columns, factors, kShared ? zero : nullptr, to,
            out->flat<int64_t>().data());
  }

 private:
  std::vector<int32_t> strides_;
  bool same_ = false, channels_last_ = true;
};

template <int kY>
Status MatMulShape(InferenceContext* context) {
  ShapeHandle x, y;
  TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 2, &x));
  TF_RETURN_IF_ERROR(context->WithRank(context->input(kY), 2, &y));
  context->set_output(0, context->Matrix(context->Dim(x, 0), context->Dim(y, 1)));
  return OkStatus();
}

template <int kY>
Status Conv2DShape(InferenceContext* context) {
  ShapeHandle x, y;
  TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 4, &x));
  TF_RETURN_IF_ERROR(context->WithRank(context->input(kY), 4, &y));
  std::string padding, data_format;
  std::vector<int32_t> strides;
  TF_RETURN_IF_ERROR(context->GetAttr("padding", &padding));
  TF_RETURN_IF_ERROR(context->GetAttr("data_format", &data_format));
  TF_RETURN_IF_ERROR(context->GetAttr("strides", &strides));
  if (strides.size() != 2) return InvalidArgument("strides are two numbers");
  const bool channels_last = data_format == "NHWC";
  DimensionHandle sides[2];
  for (int i = 0; i < 2; ++i) {
    const DimensionHandle side = context->Dim(x, (channels_last ? 1 : 2) + i);
    const DimensionHandle window = context->Dim(y, i);
    sides[i] = context->UnknownDim();
    if (context->ValueKnown(side) && context->ValueKnown(window)) {
      int64_t out = 0, pad = 0;
      TF_RETURN_IF_ERROR(WindowedSide(context->Value(side), context->Value(window), strides[i],
                                      padding == "SAME", &out, &pad));
      sides[i] = context->MakeDim(out);
    }
  }
  const DimensionHandle images = context->Dim(x, 0), columns = context->Dim(y, 3);
  context->set_output(0, channels_last ? context->MakeShape({images, sides[0], sides[1], columns})
                                       : context->MakeShape({images, columns, sides[0], sides[1]}));
  return OkStatus();
}

REGISTER_OP("Int64MatMul")
    .Input("x: int64")
    .Input("y: int64")
    .Output("product: int64")
    .SetShapeFn(MatMulShape<1>)
    .Doc("Returns the product of two matrices modulo 2^64.");

REGISTER_OP("Int64Conv2D")
    .Input("x: int64")
    .Input("y: int64")
    .Output("product: int64")
    .Attr("strides: list(int)")
    .Attr("padding: {'SAME', 'VALID'}")
    .Attr("data_format: {'NHWC', 'NCHW'} = 'NHWC'")
    .SetShapeFn(Conv2DShape<1>)
    .Doc("Returns the convolution of images with kernels (HWIO) modulo 2^64.");

REGISTER_OP("SharesMatMul")
    .Input("x: int64")
    .Input("x_next: int64")
    .Input("y: int64")
    .Input("y_next: int64")
    .Input("key: int32")
    .Input("key_next: int32")
    .Output("share: int64")
    .Attr("step: int")
    .SetShapeFn(MatMulShape<2>)
    .Doc("Returns a server's share of a product of matrices, masked by its share of zero.");

REGISTER_OP("SharesConv2D")
    .Input("x: int64")
    .Input("x_next: int64")
    .Input("y: int64")
    .Input("y_next: int64")
    .Input("key: int32")
    .Input("key_next: int32")
    .Output("share: int64")
    .Attr("step: int")
    .Attr("strides: list(int)")
    .Attr("padding: {'SAME', 'VALID'}")
    .Attr("data_format: {'NHWC', 'NCHW'} = 'NHWC'")
    .SetShapeFn(Conv2DShape<2>)
    .Doc("Returns a server's share of a convolution, masked by its share of zero.");

REGISTER_KERNEL_BUILDER(Name("Int64MatMul").Device(DEVICE_CPU), MatMulOp<false>);
REGISTER_KERNEL_BUILDER(Name("Int64Conv2D").Device(DEVICE_CPU), Conv2DOp<false>);
REGISTER_KERNEL_BUILDER(Name("SharesMatMul").Device(DEVICE_CPU), MatMulOp<true>);
REGISTER_KERNEL_BUILDER(Name("SharesConv2D").Device(DEVICE_CPU), Conv2DOp<true>);

}  // namespace
}  // namespace tfpriv
