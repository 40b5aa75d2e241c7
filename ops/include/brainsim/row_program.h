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
  int64_t n_entries, n_logs, n_values, n_sums, width, lanes;
  void *const *scalars, *const *near, *const *far, *const *synapses;  // logs, values, sums
  int64_t log;                                                        // place of the first entry in the logs

  int64_t entries(const std::vector<int32_t>& rows) const {
    int64_t total = 0;
    for (int32_t row : rows) total += indptr[row + 1] - indptr[row];
    return total;
  }

  // Asks for the entries of a row; they are read front to back, so the first lines are enough for the hardware to go
  // on.
  void ask(int64_t row) const {
    const int64_t begin = indptr[row], end = std::min<int64_t>(indptr[row + 1], begin + kAsked);
    for (int64_t k = begin; k < end; k += 64 / sizeof(int32_t)) {
      __builtin_prefetch(other + k);
      if (order != nullptr) __builtin_prefetch(order + k);
    }
    if (order != nullptr) return;
    for (int64_t v = n_logs; v < n_logs + n_values; ++v) {
      const char* values = static_cast<const char*>(synapses[v]);
      for (int64_t k = begin * width; k < end * width; k += 64) __builtin_prefetch(values + k, 1);
    }
  }

  // Asks for the first synapses of a column, which lie anywhere.
  void ask_synapses(int64_t row) const {
    if (order == nullptr) return;
    const int64_t begin = indptr[row], end = std::min<int64_t>(indptr[row + 1], begin + kFirst);
    for (int64_t v = n_logs; v < n_logs + n_values; ++v) {
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
    std::vector<void*> from(synapses, synapses + n_logs + n_values + n_sums);
    int64_t place = log;
    for (const int32_t* row = first; row < last; ++row) {
      if (last - row > 2) ask(row[2]);
      if (last - row > 1) ask_synapses(row[1]);
      const int64_t begin = indptr[*row], end = indptr[*row + 1];
      for (int64_t v = 0; v < n_logs; ++v) from[v] = static_cast<char*>(synapses[v]) + (place - begin) * width;
      place += end - begin;
      kernel(scalars, near, far, from.data(), other, order, *row, begin, end, n_entries - lanes);
    }
  }

 private:
  static constexpr int64_t kAsked = 1024, kFirst = 64;
};

// All rows of a list, shared out: no two of them have a synapse in common. Sums at the far end they may have, and a log
// is read in order, so with these one thread does all.
inline void run_rows(Team& team, const RowsCall& call, const std::vector<int32_t>& rows) {
  const auto n = static_cast<int64_t>(rows.size());
  const int64_t pieces =
      std::min(n, team.num_threads() > 1 && call.n_sums + call.n_logs == 0 ? 4 * team.num_threads() : 1);
  parallel_for(team, pieces,
               [&](int64_t k) { call.run(rows.data() + k * n / pieces, rows.data() + (k + 1) * n / pieces); });
}

// What the synapses of a list of rows were before a program: kept in a log, and brought back.
struct Past {
  const int32_t *indptr, *order;
  int64_t room;
  bool undo;

  // How much of the log is used afterwards; nothing is moved where the log has no room for all of them.
  template <typename T>
  int32_t move(const std::vector<int32_t>& rows, int64_t used, const T* from, T* to) const {
    int64_t total = 0;
    for (int32_t row : rows) total += indptr[row + 1] - indptr[row];
    int64_t at = undo ? used - total : used;
    const auto after = static_cast<int32_t>(std::min<int64_t>(undo ? at : at + total, INT32_MAX));
    if (at < 0 || at + total > room) return after;
    for (int32_t row : rows) {
      const int64_t begin = indptr[row], n = indptr[row + 1] - begin;
      if (order == nullptr) {
        undo ? std::copy_n(from + at, n, to + begin) : std::copy_n(from + begin, n, to + at);
      } else {
        const int32_t* place = order + begin;
        for (int64_t k = 0; k < n; ++k) {
          if (k + kAhead < n) __builtin_prefetch((undo ? to : from) + place[k + kAhead]);
          undo ? to[place[k]] = from[at + k] : to[at + k] = from[place[k]];
        }
      }
      at += n;
    }
    return after;
  }

 private:
  static constexpr int64_t kAhead = 32;
};

}  // namespace brainsim

#endif  // BRAINSIM_ROW_PROGRAM_H_
