// Append the indices of the non-zero values to a list, in place; what does not fit is counted, not written.
#include <cstring>

#include "brainsim/calls.h"

namespace brainsim {
namespace {

ffi::Error append(ffi::AnyBuffer buffer, ffi::AnyBuffer count, ffi::AnyBuffer value, ffi::AnyBuffer words,
                  ffi::Result<ffi::AnyBuffer> buffer_out, ffi::Result<ffi::AnyBuffer> count_out, int64_t many) {
  return for_append(buffer, count, value, words, buffer_out, count_out, [&](const auto& call) {
    using T = std::decay_t<decltype(*call.value.data())>;
    auto keep = [](const auto& to, const auto& from) {
      if (to.data() != from.data() && to.total() > 0) std::memcpy(to.data(), from.data(), to.total() * sizeof(int32_t));
    };
    keep(call.list, call.list_before);
    keep(call.length, call.length_before);
    call.batch.each([&](const Axes& b) {
      const Active<T> active{call.value.at(b), call.words.at(b), 0};
      append_active(active, call.value.size(), call.list.at(b), call.list.size(), call.length.at(b), many != 0);
    });
    return ffi::Error::Success();
  });
}

}  // namespace
}  // namespace brainsim

BRAINSIM_HANDLER(brainsim_append, brainsim::append,
                 brainsim::take<4>(xla::ffi::Ffi::Bind())
                     .Ret<xla::ffi::AnyBuffer>()  // buffer, in place
                     .Ret<xla::ffi::AnyBuffer>()  // count, in place
                     .Attr<int64_t>("many"));     // whether a value may stand for several events
