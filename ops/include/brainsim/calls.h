// What XLA hands to the event operators, checked, for the handlers of the CPU and of a GPU alike. Rows are `Stored`,
// `Drawn` or `Shared`, which ends the list of operands.
#ifndef BRAINSIM_CALLS_H_
#define BRAINSIM_CALLS_H_

#include <string>
#include <utility>

#include "brainsim/handler.h"
#include "brainsim/operands.h"
#include "brainsim/plans.h"
#include "brainsim/windows.h"

namespace brainsim {

struct Stored {
  ffi::AnyBuffer slot, delay, indptr, indices;
  int64_t n_pre, fanout, first;

  void widen(Batch& batch) const { batch.with(slot).with(delay).with(indptr).with(indices); }
  Graphs rows(const Batch& batch, int64_t depth, int64_t n_post) const {
    const auto entry = static_cast<int64_t>(ffi::ByteWidth(indices.element_type()));
    const bool stretched = indices.element_type() == ffi::DataType::S8;
    return {slot, delay, indptr, indices, batch, n_pre, fanout, first, depth, n_post, entry, stretched};
  }
};

struct Drawn {
  ffi::AnyBuffer slot, seed, tables;
  ffi::Dictionary attributes;

  void widen(Batch& batch) const { batch.with(slot).with(seed).with(tables); }
  Plans rows(const Batch& batch, int64_t depth, int64_t n_post) const {
    return {slot, seed, tables, batch, rows_of(attributes), depth, n_post};
  }
};

struct Shared {
  ffi::AnyBuffer slot;
  ffi::Span<const int64_t> window;
  int64_t first;

  void widen(Batch& batch) const { batch.with(slot); }
  Windows rows(const Batch& batch, int64_t depth, int64_t n_post) const {
    const bool known = window.size() == Window::kNumbers;
    Window w = known ? Window::of(window.begin()) : Window{};
    w.first = first;
    return {slot, batch, w, known, depth, n_post};
  }
};

// The operands of one call, `Rows` being `Graphs`, `Plans` or `Windows`.
template <typename T, typename Rows>
struct ScatterCall {
  Batch batch;
  Rows rows;
  View<const T> base, value, weight;
  Words words;
  View<T> out;
};

template <typename T, typename Rows>
struct GatherCall {
  Batch batch;
  Rows rows;
  View<const T> c, weight;
  View<const bool> mask;
  View<T> out;
};

template <typename T, typename Rows>
struct OuterCall {
  Batch batch;
  Rows rows;
  View<const T> value, c;
  Words words;
  View<T> out;
};

template <typename T>
struct AppendCall {
  Batch batch;
  View<const int32_t> list_before, length_before;
  View<const T> value;
  Words words;
  View<int32_t> list, length;
};

inline ffi::Error unfit(const char* name, const char* what) {
  return ffi::Error::InvalidArgument(std::string(name) + ": " + what + " do not fit");
}

// Calls f(batch, depth, n_post) with the axes of `ring`; all but its last two are those of the batch, as for `others`.
template <typename Source, typename F, typename... Buffers>
ffi::Error for_ring(const char* name, const Source& source, const ffi::AnyBuffer& ring, F&& f,
                    const Buffers&... others) {
  const auto dims = ring.dimensions();
  if (dims.size() < 2) return unfit(name, "the axes of a ring");
  Batch batch(dims.size() - 2);
  batch.with(ring);
  (batch.with(others), ...);
  source.widen(batch);
  if (!batch.ok()) return unfit(name, "batch axes");
  return f(batch, dims[dims.size() - 2], dims[dims.size() - 1]);
}

// Calls f(ScatterCall).
template <typename Source, typename F>
ffi::Error for_scatter(const char* name, const Source& source, const ffi::AnyBuffer& base, const ffi::AnyBuffer& value,
                       const ffi::AnyBuffer& weight, const ffi::AnyBuffer& words, ffi::Result<ffi::AnyBuffer> out,
                       F&& f) {
  auto checked = [&](const Batch& batch, int64_t depth, int64_t n_post) {
    const auto same = {value.element_type(), weight.element_type(), out->element_type()};
    return for_float_type(base.element_type(), same, [&](auto zero) {
      using T = decltype(zero);
      const auto rows = source.rows(batch, depth, n_post);
      const View<const T> v(value, batch), w(weight, batch), from(base, batch);
      const Words packed(words, batch, v.size());
      const bool fit = rows.fit(v.size()) && rows.fit_weight(w.size()) && packed.fit();
      if (!fit) return unfit(name, "lengths");
      return f(ScatterCall<T, std::decay_t<decltype(rows)>>{batch, rows, from, v, w, packed, View<T>(*out, batch)});
    });
  };
  return for_ring(name, source, base, checked, value, weight, words);
}

// Calls f(GatherCall).
template <typename Source, typename F>
ffi::Error for_gather(const char* name, const Source& source, const ffi::AnyBuffer& c, const ffi::AnyBuffer& weight,
                      const ffi::AnyBuffer& mask, ffi::Result<ffi::AnyBuffer> out, F&& f) {
  auto checked = [&](const Batch& batch, int64_t depth, int64_t n_post) {
    return for_float_type(c.element_type(), {weight.element_type(), out->element_type()}, [&](auto zero) {
      using T = decltype(zero);
      const auto rows = source.rows(batch, depth, n_post);
      const View<const T> from(c, batch), w(weight, batch);
      const View<const bool> wanted(mask, batch);
      const View<T> to(*out, batch);
      const bool some = wanted.size() == 0 || wanted.size() == to.size();
      if (!rows.fit(to.size()) || !rows.fit_weight(w.size()) || !some) return unfit(name, "lengths");
      return f(GatherCall<T, std::decay_t<decltype(rows)>>{batch, rows, from, w, wanted, to});
    });
  };
  return for_ring(name, source, c, checked, weight, mask);
}

// Calls f(OuterCall). Elements share `out` where it has no batch axes (`summed`).
template <typename Source, typename F>
ffi::Error for_outer(const char* name, const Source& source, const ffi::AnyBuffer& value, const ffi::AnyBuffer& c,
                     const ffi::AnyBuffer& words, ffi::Result<ffi::AnyBuffer> out, bool summed, F&& f) {
  auto checked = [&](Batch batch, int64_t depth, int64_t n_post) {
    if (!summed && !batch.with(*out).ok()) return unfit(name, "batch axes");
    return for_float_type(c.element_type(), {value.element_type(), out->element_type()}, [&](auto zero) {
      using T = decltype(zero);
      const auto rows = source.rows(batch, depth, n_post);
      const View<const T> v(value, batch), from(c, batch);
      const View<T> to = summed ? View<T>(static_cast<T*>(out->untyped_data()), out->element_count())  //
                                : View<T>(*out, batch);
      const Words packed(words, batch, v.size());
      const bool fit = rows.fit(v.size()) && rows.fit_weight(to.size()) && packed.fit();
      if (!fit) return unfit(name, "lengths");
      return f(OuterCall<T, std::decay_t<decltype(rows)>>{batch, rows, v, from, packed, to});
    });
  };
  return for_ring(name, source, c, checked, value, words);
}

// Calls f(AppendCall).
template <typename F>
ffi::Error for_append(const ffi::AnyBuffer& buffer, const ffi::AnyBuffer& count, const ffi::AnyBuffer& value,
                      const ffi::AnyBuffer& words, ffi::Result<ffi::AnyBuffer> buffer_out,
                      ffi::Result<ffi::AnyBuffer> count_out, F&& f) {
  Batch batch(count.dimensions().size());
  batch.with(buffer).with(count).with(value).with(words);
  if (!batch.ok()) return unfit("append", "batch axes");
  return for_float_type(value.element_type(), {}, [&](auto zero) {
    using T = decltype(zero);
    const View<const T> v(value, batch);
    const Words packed(words, batch, v.size());
    if (!packed.fit()) return unfit("append", "lengths");
    const View<const int32_t> list(buffer, batch), length(count, batch);
    return f(AppendCall<T>{batch, list, length, v, packed, {*buffer_out, batch}, {*count_out, batch}});
  });
}

// Bindings: `kArgs` operands, and the attributes of either kind of rows.
template <int kArgs, typename Binding>
auto take(Binding&& binding) {
  if constexpr (kArgs == 1) {
    return std::move(binding).template Arg<ffi::AnyBuffer>();
  } else {
    return take<kArgs - 1>(std::move(binding).template Arg<ffi::AnyBuffer>());
  }
}
template <int kArgs, typename Binding>
auto take_stored(Binding&& binding) {
  return take<kArgs>(std::move(binding))
      .template Ret<ffi::AnyBuffer>()
      .template Attr<int64_t>("n_pre")
      .template Attr<int64_t>("fanout")
      .template Attr<int64_t>("first");
}
template <int kArgs, typename Binding>
auto take_shared(Binding&& binding) {
  return take<kArgs>(std::move(binding))
      .template Ret<ffi::AnyBuffer>()
      .template Attr<ffi::Span<const int64_t>>("window")
      .template Attr<int64_t>("first");
}
template <int kArgs, typename Binding>
auto take_drawn(Binding&& binding) {
  return take<kArgs>(std::move(binding)).template Ret<ffi::AnyBuffer>().Attrs();
}

}  // namespace brainsim

#endif  // BRAINSIM_CALLS_H_
