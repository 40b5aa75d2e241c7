// Four synapses at once, by the vector units of whatever processor.
#ifndef BRAINSIM_FOUR_H_
#define BRAINSIM_FOUR_H_

#include <cstdint>
#include <cstring>

#include "brainsim/graph.h"

namespace brainsim {

// Not returned by functions: how they would hand it over depends on the processor.
template <typename T>
using Four [[gnu::vector_size(4 * sizeof(T))]] = T;

// x[0..3]. `V`: Four<T>.
template <typename T, typename V>
inline void read_four(const T* x, V& four) {
  std::memcpy(&four, x, sizeof(four));
}

// What is in `c` where the synapses j..j+3 deliver to; they have targets.
template <bool kDelay, int kBytes, typename T, typename V>
inline void read_four(const T* c, const Graph& graph, Targets<kBytes> targets, int64_t j, int64_t now, V& four) {
  auto at = [&](int64_t j) { return c[graph.place<kDelay>(targets[j], j, now)]; };
  four = V{at(j), at(j + 1), at(j + 2), at(j + 3)};
}

}  // namespace brainsim

#endif  // BRAINSIM_FOUR_H_
