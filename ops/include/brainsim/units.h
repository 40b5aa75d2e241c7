// The kernels that brainsim/fusion compiled, found by number, so that a program kept on disk holds no address.
#ifndef BRAINSIM_UNITS_H_
#define BRAINSIM_UNITS_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace brainsim {

// Of units begin..end: reads scalars and vectors, writes vectors, clears the rows of rings among those it read, writes
// one bit per unit of the last vector into `words`, and into `tally` the number of bits set and whether anything is not
// finite. `begin` is a multiple of 64.
using Kernel = void (*)(void* const* scalars, void* const* in, void* const* out, void* words, int64_t begin,
                        int64_t end, int32_t* tally);

// The compiled code of that number; null where this process has not compiled it.
void* find_kernel(int64_t id);

constexpr int64_t kChunk = 4096;  // units at a time

// Row `slot` of a ring of `depth` rows, whatever the sign of `slot`.
inline int64_t ring_row(int64_t slot, int64_t depth) {
  const int64_t row = slot % depth;
  return row < 0 ? row + depth : row;
}

}  // namespace brainsim

#endif  // BRAINSIM_UNITS_H_
