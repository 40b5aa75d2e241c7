// Append the indices of the non-zero values to a list, in place; what does not fit is counted, not written.
#include <cstring>

#include "brainsim/batch.h"
#include "brainsim/handler.h"
#include "brainsim/operands.h"

namespace brainsim {
namespace {

ffi::Error append(ffi::AnyBuffer buffer, ffi::AnyBuffer count, ffi::AnyBuffer value, ffi::AnyBuffer words,
                  ffi::Result<ffi::AnyBuffer> buffer_out, ffi::Result<ffi::AnyBuffer> count_out) {
  Batch batch(count.dimensions().size());
  batch.with(buffer).with(count).with(value).with(words);
  if (!batch.ok()) return ffi::Error::InvalidArgument("append: batch axes do not fit");
  return for_float_type(value.element_type(), {}, [&](auto zero) {
    using T = decltype(zero);
    View<const T> v(value, batch);
    Words packed(words, batch, v.size());
    if (!packed.fit()) return ffi::Error::InvalidArgument("append: lengths do not fit");
    View<int32_t> list(*buffer_out, batch), length(*count_out, batch);
    View<const int32_t> list_in(buffer, batch), length_in(count, batch);
    auto keep = [](const auto& to, const auto& from) {
      if (to.data() != from.data() && to.total() > 0) std::memcpy(to.data(), from.data(), to.total() * sizeof(int32_t));
    };
    keep(list, list_in);
    keep(length, length_in);
    batch.each([&](const Axes& b) {
      append_active(Active<T>{v.at(b), packed.at(b), 0}, v.size(), list.at(b), list.size(), length.at(b));
    });
    return ffi::Error::Success();
  });
}

}  // namespace
}  // namespace brainsim

BRAINSIM_HANDLER(brainsim_append, brainsim::append,
                 xla::ffi::Ffi::Bind()
                     .Arg<xla::ffi::AnyBuffer>()    // buffer
                     .Arg<xla::ffi::AnyBuffer>()    // count
                     .Arg<xla::ffi::AnyBuffer>()    // value
                     .Arg<xla::ffi::AnyBuffer>()    // words
                     .Ret<xla::ffi::AnyBuffer>()    // buffer, in place
                     .Ret<xla::ffi::AnyBuffer>());  // count, in place
