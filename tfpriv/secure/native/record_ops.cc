// Writes private records: TFRecord files that only their owner can read.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "ops.h"
#include "tensorflow/core/lib/io/record_writer.h"

namespace tfpriv {
namespace {

using tensorflow::tstring;
using tensorflow::errors::IOError;
using tensorflow::io::RecordWriter;

constexpr mode_t kOwnerOnly = S_IRUSR | S_IWUSR;

// A file descriptor that is closed at the end of its scope.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  operator int() const { return number_; }

 private:
  const int number_;
};

// Writes all of the bytes, and says whether it could; errno says why it could not.
bool WriteBytes(int file, const char* bytes, size_t count) {
  while (count > 0) {
    const ssize_t written = write(file, bytes, count);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    bytes += written;
    count -= written;
  }
  return true;
}

// The frame of a record is RecordWriter's own; RecordWriter itself writes to files of its own
// making, whose mode cannot be chosen.
bool WriteFramed(int file, const tstring& record) {
  char header[RecordWriter::kHeaderSize], footer[RecordWriter::kFooterSize];
  RecordWriter::PopulateHeader(header, record.data(), record.size());
  RecordWriter::PopulateFooter(footer, record.data(), record.size());
  return WriteBytes(file, header, sizeof(header)) &&
         WriteBytes(file, record.data(), record.size()) && WriteBytes(file, footer, sizeof(footer));
}

// Adds a record to a file, or leaves the file as it was.
Status Append(const std::string& path, const tstring& record) {
  // Opening a pipe that nobody reads would wait without O_NONBLOCK; regular files know no waiting.
  const Descriptor file(
      open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, kOwnerOnly));
  struct stat about;
  if (file < 0 || fstat(file, &about) != 0) return IOError("cannot open " + path, errno);
  if (!S_ISREG(about.st_mode)) return InvalidArgument(path, " is not a regular file");
  if (fchmod(file, kOwnerOnly) != 0) return IOError("cannot make " + path + " private", errno);
  // Records that are written at the same moment follow one another.
  if (flock(file, LOCK_EX) != 0) return IOError("cannot lock " + path, errno);
  const off_t end = lseek(file, 0, SEEK_END);
  if (end >= 0 && WriteFramed(file, record)) return OkStatus();
  const int reason = errno;
  if (end >= 0 && ftruncate(file, end) != 0) {
    return IOError("a part of a record was left at the end of " + path, reason);
  }
  return IOError("cannot write to " + path, reason);
}

// Puts a file with one record in the place of what was there; a reader sees either, whole.
Status Replace(const std::string& path, const tstring& record) {
  struct stat about;
  if (stat(path.c_str(), &about) == 0 && !S_ISREG(about.st_mode)) {
    return InvalidArgument(path, " is not a regular file");
  }
  std::string draft = path + ".XXXXXX";
  const Descriptor file(mkostemp(draft.data(), O_CLOEXEC));  // its mode is kOwnerOnly
  if (file < 0) return IOError("cannot write beside " + path, errno);
  if (WriteFramed(file, record) && rename(draft.c_str(), path.c_str()) == 0) return OkStatus();
  const int reason = errno;
  unlink(draft.c_str());
  return IOError("cannot write " + path, reason);
}

class WriteRecordOp : public OpKernel {
 public:
  explicit WriteRecordOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("append", &append_));
  }
  void Compute(OpKernelContext* context) override {
    const Tensor& filename = context->input(0);
    const Tensor& record = context->input(1);
    OP_REQUIRES(
        context, filename.dims() == 0 && record.dims() == 0,
        InvalidArgument("filename and record are single strings, and have shapes ",
                        filename.shape().DebugString(), " and ", record.shape().DebugString()));
    const std::string path = filename.scalar<tstring>()();
    OP_REQUIRES(context, !path.empty() && path.find('\0') == std::string::npos,
                InvalidArgument("filename is empty or holds a zero byte"));
    OP_REQUIRES_OK(context, (append_ ? Append : Replace)(path, record.scalar<tstring>()()));
  }

 private:
  bool append_ = true;
};

REGISTER_OP("WriteRecord")
    .Input("filename: string")
    .Input("record: string")
    .Attr("append: bool")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::NoOutputs)
    .Doc(R"doc(
Writes a record to a TFRecord file that only its owner can read and write (mode 0600), on the
machine of the device that it runs on.

append: Whether the record follows those of the file, or takes their place.
)doc");

REGISTER_KERNEL_BUILDER(Name("WriteRecord").Device(DEVICE_CPU), WriteRecordOp);

}  // namespace
}  // namespace tfpriv
