// Operands of any type, as the handlers see them whose kernels know the types.
#ifndef BRAINSIM_UNTYPED_H_
#define BRAINSIM_UNTYPED_H_

#include <cstdint>
#include <vector>

#include "brainsim/batch.h"
#include "xla/ffi/api/ffi.h"

namespace brainsim {

// An operand of any type, seen element by element of the batch.
struct Operand {
  char* data;
  int64_t size;   // entries of one batch element
  int64_t width;  // bytes of an entry
  std::vector<int64_t> stride;

  template <typename Buffer>
  Operand(const Buffer& buffer, int64_t rank) : data(static_cast<char*>(buffer.untyped_data())), size(1), stride(rank) {
    auto dims = buffer.dimensions();
    width = static_cast<int64_t>(xla::ffi::ByteWidth(buffer.element_type()));
    for (size_t a = rank; a < dims.size(); ++a) size *= dims[a];
    int64_t step = size * width;
    for (int64_t a = rank; a-- > 0;) {
      stride[a] = dims[a] == 1 ? 0 : step;
      step *= dims[a];
    }
  }

  int64_t bytes() const { return size * width; }  // of one batch element

  char* at(const Axes& coordinates) const {
    char* to = data;
    for (size_t a = 0; a < stride.size(); ++a) to += coordinates[a] * stride[a];
    return to;
  }
};

// All operands and results of a call, whose leading axes are taken into the shape of `batch`.
inline xla::ffi::Error read_operands(const xla::ffi::RemainingArgs& args, const xla::ffi::RemainingRets& rets,
                                     Batch& batch, std::vector<Operand>& in, std::vector<Operand>& out) {
  const int rank = batch.rank();
  in.clear();
  out.clear();
  for (size_t k = 0; k < args.size(); ++k) {
    auto buffer = args.get<xla::ffi::AnyBuffer>(k);
    if (buffer.has_error()) return buffer.error();
    if (batch.with(*buffer).ok()) in.emplace_back(*buffer, rank);
  }
  for (size_t k = 0; k < rets.size(); ++k) {
    auto buffer = rets.get<xla::ffi::AnyBuffer>(k);
    if (buffer.has_error()) return buffer.error();
    if (batch.with(**buffer).ok()) out.emplace_back(**buffer, rank);
  }
  return batch.ok() ? xla::ffi::Error::Success() : xla::ffi::Error::InvalidArgument("brainsim: batch axes do not fit");
}

}  // namespace brainsim

#endif  // BRAINSIM_UNTYPED_H_
