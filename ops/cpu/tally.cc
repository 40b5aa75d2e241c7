// Count the non-zero values and look for NaN or infinity in any number of arrays, in one pass over each.
#include <cstring>

#include "brainsim/handler.h"

namespace brainsim {
namespace {

template <typename T>
struct Bits;
template <>
struct Bits<float> {
  using type = uint32_t;
  static constexpr type exponent = 0x7f800000u;
};
template <>
struct Bits<double> {
  using type = uint64_t;
  static constexpr type exponent = 0x7ff0000000000000u;
};

template <typename T>
typename Bits<T>::type bits_of(T x) {
  typename Bits<T>::type bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

// Integer arithmetic on the bits, as only that vectorises without fast-math.
template <typename T>
int32_t count(const T* x, int64_t n) {
  typename Bits<T>::type found = 0;
  for (int64_t i = 0; i < n; ++i) found += (bits_of(x[i]) << 1) != 0;
  return static_cast<int32_t>(found);
}

template <typename T>
bool not_finite(const T* x, int64_t n) {
  typename Bits<T>::type found = 0;
  for (int64_t i = 0; i < n; ++i) found |= (bits_of(x[i]) & Bits<T>::exponent) == Bits<T>::exponent;
  return found != 0;
}

// `value` and the other arrays (..., n) share their leading axes; so do the results.
ffi::Error tally(ffi::AnyBuffer value, ffi::RemainingArgs others, ffi::Result<ffi::Buffer<ffi::S32>> counted,
                 ffi::Result<ffi::Buffer<ffi::S32>> bad) {
  return for_float_type(value.element_type(), {}, [&](auto zero) {
    using T = decltype(zero);
    const int64_t batch = counted->element_count();
    const int64_t n = batch ? value.element_count() / batch : 0;
    for (int64_t b = 0; b < batch; ++b) {
      counted->typed_data()[b] = count(static_cast<const T*>(value.untyped_data()) + b * n, n);
      bad->typed_data()[b] = 0;
    }
    for (size_t k = 0; k < others.size(); ++k) {
      auto other = others.get<ffi::AnyBuffer>(k);
      if (other.has_error() || other->element_type() != value.element_type()) {
        return ffi::Error::InvalidArgument("tally: all arrays have one floating type");
      }
      const int64_t m = batch ? other->element_count() / batch : 0;
      for (int64_t b = 0; b < batch; ++b) {
        bad->typed_data()[b] |= not_finite(static_cast<const T*>(other->untyped_data()) + b * m, m);
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
                     .Ret<xla::ffi::Buffer<xla::ffi::S32>>()    // number of non-zero values
                     .Ret<xla::ffi::Buffer<xla::ffi::S32>>());  // 1 if anything is not finite
