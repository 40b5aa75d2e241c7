// An array of zeros whose memory is taken only as it is written to: room for a list that may stay short.
#include <cstdint>
#include <cstring>

#include "brainsim/handler.h"

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace brainsim {
namespace {

void clear(char* data, size_t bytes) {
#if defined(__linux__)
  // pages given back to the system read as zeros, and are there again when they are written to
  const uintptr_t page = sysconf(_SC_PAGESIZE), at = reinterpret_cast<uintptr_t>(data);
  const uintptr_t begin = (at + page - 1) & -page, end = (at + bytes) & -page;
  if (begin < end && madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED) == 0) {
    std::memset(data, 0, begin - at);
    std::memset(reinterpret_cast<char*>(end), 0, at + bytes - end);
    return;
  }
#endif
  std::memset(data, 0, bytes);
}

ffi::Error room(ffi::Result<ffi::AnyBuffer> out) {
  if (out->size_bytes() > 0) clear(static_cast<char*>(out->untyped_data()), out->size_bytes());
  return ffi::Error::Success();
}

}  // namespace
}  // namespace brainsim

BRAINSIM_HANDLER(brainsim_room, brainsim::room, xla::ffi::Ffi::Bind().Ret<xla::ffi::AnyBuffer>());
