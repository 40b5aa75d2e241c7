// Count the events and look for NaN or infinity in any number of arrays, in one pass over each.
#include "brainsim/tally.h"

#include "brainsim/handler.h"

namespace brainsim {
namespace {

// `value` and the other arrays (..., n) share their leading axes; so do the results.
ffi::Error tally(ffi::AnyBuffer value, ffi::RemainingArgs others, ffi::Result<ffi::Buffer<ffi::S32>> counted,
                 ffi::Result<ffi::Buffer<ffi::S32>> bad, int64_t many) {
  return for_float_type(value.element_type(), {}, [&](auto zero) {
    using T = decltype(zero);
    const int64_t batch = counted->element_count();
    const int64_t n = batch ? value.element_count() / batch : 0;
    for (int64_t b = 0; b < batch; ++b) {
      const T* const values = static_cast<const T*>(value.untyped_data()) + b * n;
      counted->typed_data()[b] = many ? count_events(values, n) : count_values(values, n);
      bad->typed_data()[b] = 0;
    }
    for (size_t k = 0; k < others.size(); ++k) {
      auto other = others.get<ffi::AnyBuffer>(k);
      if (other.has_error() || other->element_type() != value.element_type()) {
        return ffi::Error::InvalidArgument("tally: all arrays have one floating type");
      }
      const int64_t m = batch ? other->element_count() / batch : 0;
      for (int64_t b = 0; b < batch; ++b) {
        bad->typed_data()[b] |= any_diverged(static_cast<const T*>(other->untyped_data()) + b * m, m);
      }
    }
    return ffi::Error::Success();
  });
}

}  // namespace
}  // namespace brainsim

BRAINSIM_HANDLER(brainsim_tally, brainsim::tally,
                 xla::ffi::Ffi::Bind()
                     .Arg<xla::ffi::AnyBuffer>()  // value
                     .RemainingArgs()
                     .Ret<xla::ffi::Buffer<xla::ffi::S32>>()  // number of events
                     .Ret<xla::ffi::Buffer<xla::ffi::S32>>()  // 1 if anything has diverged
                     .Attr<int64_t>("many"));                 // whether a value may stand for several events
