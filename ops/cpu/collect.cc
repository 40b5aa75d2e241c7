// Take what arrives now out of the ring: row `slot` is copied out and cleared, in place. As one operation, because a
// read and a write of the same carried buffer make XLA copy the whole ring every step.
#include <cstring>

#include "brainsim/batch.h"
#include "brainsim/handler.h"

namespace brainsim {
namespace {

ffi::Error collect(ffi::AnyBuffer inbox, ffi::AnyBuffer slot, ffi::Result<ffi::AnyBuffer> row,
                   ffi::Result<ffi::AnyBuffer> out) {
  auto dims = inbox.dimensions();
  if (dims.size() < 2) return ffi::Error::InvalidArgument("collect: inbox needs a depth and a size");
  const int64_t depth = dims[dims.size() - 2], n_post = dims[dims.size() - 1];
  Batch batch(dims.size() - 2);
  batch.with(inbox).with(slot).with(*row);
  if (!batch.ok()) return ffi::Error::InvalidArgument("collect: batch axes do not fit");
  return for_float_type(inbox.element_type(), {row->element_type(), out->element_type()}, [&](auto zero) {
    using T = decltype(zero);
    View<T> taken(*row, batch), ring(*out, batch);
    View<const T> from(inbox, batch);
    View<const int32_t> now(slot, batch);
    if (now.size() != 1 || taken.size() != n_post) return ffi::Error::InvalidArgument("collect: lengths do not fit");
    if (ring.total() == 0) return ffi::Error::Success();
    if (ring.data() != from.data()) std::memcpy(ring.data(), from.data(), ring.total() * sizeof(T));
    batch.each([&](const Axes& b) {
      const int64_t s = *now.at(b) % depth;
      T* arrivals = ring.at(b) + (s < 0 ? s + depth : s) * n_post;
      std::memcpy(taken.at(b), arrivals, n_post * sizeof(T));
      std::memset(arrivals, 0, n_post * sizeof(T));
    });
    return ffi::Error::Success();
  });
}

}  // namespace
}  // namespace brainsim

BRAINSIM_HANDLER(brainsim_collect, brainsim::collect,
                 xla::ffi::Ffi::Bind()
                     .Arg<xla::ffi::AnyBuffer>()    // inbox
                     .Arg<xla::ffi::AnyBuffer>()    // slot
                     .Ret<xla::ffi::AnyBuffer>()    // the row
                     .Ret<xla::ffi::AnyBuffer>());  // inbox, in place
