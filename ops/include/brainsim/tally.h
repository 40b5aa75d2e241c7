// Values that are not zero, and values that have diverged.
#ifndef BRAINSIM_TALLY_H_
#define BRAINSIM_TALLY_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "brainsim/both.h"

namespace brainsim {

template <typename T>
struct Bits;
template <>
struct Bits<float> {
  using type = uint32_t;
  static constexpr type exponent = 0x7f800000u, diverged = 0x5f800000u;
};
template <>
struct Bits<double> {
  using type = uint64_t;
  static constexpr type exponent = 0x7ff0000000000000u, diverged = 0x43f0000000000000u;
};

template <typename T>
typename Bits<T>::type bits_of(T x) {
  typename Bits<T>::type bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

// How many events a value stands for: k for a whole number k from 2 to 2^24, 1 for all others but 0.
template <typename T>
BRAINSIM_BOTH inline int32_t multiplicity(T value) {
  const bool counts = value > T(1) && value <= T(1 << 24);
  const int32_t whole = counts ? static_cast<int32_t>(value) : 1;
  return value == T(0) ? 0 : static_cast<T>(whole) == value ? whole : 1;
}

// Integer arithmetic on the bits, as only that vectorises without fast-math.
template <typename T>
int32_t count_values(const T* x, int64_t n) {
  typename Bits<T>::type found = 0;
  for (int64_t i = 0; i < n; ++i) found += (bits_of(x[i]) << 1) != 0;
  return static_cast<int32_t>(found);
}

// The sum of the multiplicities, at most 2^31 - 1; nearly as fast as `count_values` where none is above 1.
template <typename T>
int32_t count_events(const T* x, int64_t n) {
  using U = typename Bits<T>::type;
  const U one = bits_of(T(1)), sign = U(1) << (8 * sizeof(U) - 1);
  U large = 0;
  for (int64_t i = 0; i < n; ++i) large |= ((one - bits_of(x[i])) & ~bits_of(x[i])) & sign;
  if (large == 0) return count_values(x, n);
  int64_t found = 0;
  for (int64_t i = 0; i < n; ++i) found += multiplicity(x[i]);
  return static_cast<int32_t>(std::min<int64_t>(found, std::numeric_limits<int32_t>::max()));
}

// NaN, infinite, or 2^64 and beyond.
template <typename T>
bool any_diverged(const T* x, int64_t n) {
  typename Bits<T>::type found = 0;
  for (int64_t i = 0; i < n; ++i) found |= (bits_of(x[i]) & Bits<T>::exponent) >= Bits<T>::diverged;
  return found != 0;
}

}  // namespace brainsim

#endif  // BRAINSIM_TALLY_H_
