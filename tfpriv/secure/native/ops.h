// What the ops share: errors, threads, and the tensors that hold seeds.
#ifndef TFPRIV_SECURE_NATIVE_OPS_H_
#define TFPRIV_SECURE_NATIVE_OPS_H_

#include <cstring>
#include <functional>

#include "chacha20.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/util/work_sharder.h"

namespace tfpriv {

using tensorflow::DEVICE_CPU;
using tensorflow::OkStatus;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Status;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::errors::InvalidArgument;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

// Runs body(first, last) over [0, total) on TensorFlow's own threads; cost_per_unit is in cycles.
inline void Parallel(OpKernelContext* context, int64_t total, int64_t cost_per_unit,
                     const std::function<void(int64_t, int64_t)>& body) {
  auto& threads = *context->device()->tensorflow_cpu_worker_threads();
  tensorflow::Shard(threads.num_threads, threads.workers, total, cost_per_unit, body);
}

// Reads a seed, int32[8], as the key of a stream.
inline Status SeedToKey(const Tensor& seed, Stream* stream) {
  if (seed.dims() != 1 || seed.NumElements() != 8) {
    return InvalidArgument("a seed has shape [8], and this one has ", seed.shape().DebugString());
  }
  std::memcpy(stream->key, seed.data(), sizeof(stream->key));
  return OkStatus();
}

// Reads a shape from an int32 vector.
inline Status ReadShape(const Tensor& sizes, TensorShape* shape) {
  if (sizes.dims() != 1) {
    return InvalidArgument("a shape is a vector, and this one has rank ", sizes.dims());
  }
  return tensorflow::TensorShapeUtils::MakeShape(sizes.flat<int32_t>().data(), sizes.NumElements(),
                                                 shape);
}

}  // namespace tfpriv

#endif  // TFPRIV_SECURE_NATIVE_OPS_H_
