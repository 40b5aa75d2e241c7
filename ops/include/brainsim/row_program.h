// Runs a program over the synapses of the rows that have events, each changed where it lies.
#ifndef BRAINSIM_ROW_PROGRAM_H_
#define BRAINSIM_ROW_PROGRAM_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "brainsim/parallel.h"
#include "brainsim/team.h"

namespace brainsim {

// A graph by rows, `order` null where entry k of it is synapse k; and what the kernel reads and changes.
struct RowsCall {
  using Kernel = void (*)(void* const* scalars, void* const* near, void* const* far, void* const* synapses,
                          const int32_t* other, const int32_t* order, int64_t row, int64_t begin, int64_t end,
                          int64_t last);
  Kernel kernel;
  const int32_t *indptr, *other, *order;
  int64_t n_entries, n_synapse_values, width, lanes;
  void *const *scalars, *const *near, *const *far, *const *synapses;

  // Asks for the entries of a row; they are read front to back, so the first lines are enough for the hardware to go
  // on.
  void ask(int64_t row) const {
    const int64_t begin = indptr[row], end = std::min<int64_t>(indptr[row + 1], begin + kAsked);
    for (int64_t k = begin; k < end; k += 64 / sizeof(int32_t)) {
      __builtin_prefetch(other + k);
      if (order != nullptr) __builtin_prefetch(order + k);
    }
    if (order != nullptr) return;
    for (int64_t v = 0; v < n_synapse_values; ++v) {
      const char* values = static_cast<const char*>(synapses[v]);
      for (int64_t k = begin * width; k < end * width; k += 64) __builtin_prefetch(values + k, 1);
    }
  }

  // Asks for the first synapses of a column, which lie anywhere.
  void ask_synapses(int64_t row) const {
    if (order == nullptr) return;
    const int64_t begin = indptr[row], end = std::min<int64_t>(indptr[row + 1], begin + kFirst);
    for (int64_t v = 0; v < n_synapse_values; ++v) {
      const char* values = static_cast<const char*>(synapses[v]);
      for (int64_t k = begin; k < end; ++k) __builtin_prefetch(values + order[k] * width, 1);
    }
  }

  // Rows `first` to `last` of a list.
  void run(const int32_t* first, const int32_t* last) const {
    if (first == last) return;
    ask(first[0]);
    if (last - first > 1) ask(first[1]);
    ask_synapses(first[0]);
    for (const int32_t* row = first; row < last; ++row) {
      if (last - row > 2) ask(row[2]);
      if (last - row > 1) ask_synapses(row[1]);
      kernel(scalars, near, far, synapses, other, order, *row, indptr[*row], indptr[*row + 1], n_entries - lanes);
    }
  }

 private:
  static constexpr int64_t kAsked = 1024, kFirst = 64;
};

// All rows of a list, shared out: no two of them have a synapse in common.
inline void run_rows(Team& team, const RowsCall& call, const std::vector<int32_t>& rows) {
  const auto n = static_cast<int64_t>(rows.size());
  const int64_t pieces = std::min(n, team.num_threads() > 1 ? 4 * team.num_threads() : 1);
  parallel_for(team, pieces,
               [&](int64_t k) { call.run(rows.data() + k * n / pieces, rows.data() + (k + 1) * n / pieces); });
}

}  // namespace brainsim

#endif  // BRAINSIM_ROW_PROGRAM_H_
