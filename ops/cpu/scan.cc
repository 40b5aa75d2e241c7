// Many steps of a body of kernels and scalars as one call: runs the tape that brainsim/fusion/_tape.py wrote. Every
// value of the body has a cell, which is a pointer; state is changed where it lies.
#include <array>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "brainsim/batch.h"
#include "brainsim/convolution.h"
#include "brainsim/drawn.h"
#include "brainsim/filed.h"
#include "brainsim/gather.h"
#include "brainsim/handler.h"
#include "brainsim/random.h"
#include "brainsim/row_program.h"
#include "brainsim/scatter.h"
#include "brainsim/tally.h"
#include "brainsim/team.h"
#include "brainsim/units.h"
#include "brainsim/untyped.h"

namespace brainsim {
namespace {

enum Op : int64_t {
  kScalars = 0,
  kUnits = 1,
  kScatter = 2,
  kAppend = 3,
  kTally = 4,
  kFold = 5,
  kBits = 6,
  kNormals = 7,
  kCopy = 8,
  kGather = 9,
  kCollect = 10,
  kPlace = 11,
  kRows = 12,
  kSkip = 13,
  kPast = 14,
  kConvolve = 15,
  kConvolveBack = 16,
  kDraw = 17,
  kDrawBack = 18
};

enum Words : int64_t { kOfUnits = 1, kOther = 2 };  // 0 where there are none

struct Instruction {
  int64_t op;
  std::vector<int64_t> cells, numbers;
  void* kernel = nullptr;
  // Of units and of scatters: the scatters into a ring of theirs that may be filed. Of such a scatter: whether it may.
  std::vector<int64_t> gets = {};
  bool may_be_filed = false;
};

// The tape: numbers of constants, carried arrays, rows per step in and out, literals, scratch cells; bytes of scratch;
// the literals, 8 bytes each; the places of the scratch cells; then instructions, each its operation, its numbers of
// cells and of numbers, the cells, the numbers.
struct Tape {
  int64_t n_consts, n_carry, n_xs, n_ys, scratch_bytes;
  const int64_t* literals;
  int64_t n_literals;
  std::vector<int64_t> places;
  std::vector<Instruction> instructions;
  uint64_t number;  // tells this tape from others

  // Whether the tape is complete and its kernels are in this process.
  bool read(ffi::Span<const int64_t> tape) {
    number = 0xcbf29ce484222325u;
    for (int64_t x : tape) number = (number ^ static_cast<uint64_t>(x)) * 0x100000001b3u;
    const int64_t* at = tape.begin();
    n_consts = *at++;
    n_carry = *at++;
    n_xs = *at++;
    n_ys = *at++;
    n_literals = *at++;
    const int64_t n_scratch = *at++;
    scratch_bytes = *at++;
    literals = at;
    at += n_literals;
    places.assign(at, at + n_scratch);
    at += n_scratch;
    while (at < tape.end()) {
      Instruction next{at[0], {}, {}};
      const int64_t n_cells = at[1], n_numbers = at[2];
      at += 3;
      next.cells.assign(at, at + n_cells);
      at += n_cells;
      next.numbers.assign(at, at + n_numbers);
      at += n_numbers;
      if (next.op == kScalars || next.op == kUnits || next.op == kRows) {
        next.kernel = find_kernel(next.numbers[0]);
        if (next.kernel == nullptr) return false;
      }
      instructions.push_back(std::move(next));
    }
    plan();
    return true;
  }

 private:
  // A scatter without delay may be filed if its ring is carried, and if nobody but units sees it, in steps to come:
  // they stand before it.
  void plan() {
    const auto n = static_cast<int64_t>(instructions.size());
    for (int64_t k = 0; k < n; ++k) {
      Instruction& does = instructions[k];
      if (does.op != kScatter || does.numbers[10] || does.numbers[6] != 1) continue;
      const int64_t ring = does.cells[0];
      const bool carried = ring >= n_consts && ring < n_consts + n_carry;
      does.may_be_filed = carried && units_read_before(k);
      if (!does.may_be_filed) continue;
      for (Instruction& other : instructions) {
        if (std::count(other.cells.begin(), other.cells.end(), ring) > 0) other.gets.push_back(k);
      }
    }
  }

  // Whether units read the ring of scatter k before it and nobody else does; others may scatter into it.
  bool units_read_before(int64_t k) const {
    const int64_t ring = instructions[k].cells[0], n_post = instructions[k].numbers[7];
    bool read = false;
    for (int64_t j = 0; j < static_cast<int64_t>(instructions.size()); ++j) {
      const Instruction& does = instructions[j];
      const int64_t n = does.cells.size(), *x = does.numbers.data();
      for (int64_t c = 0; c < n; ++c) {
        if (does.cells[c] != ring || (does.op == kScatter && c == 0)) continue;
        if (does.op != kUnits || x[1] != n_post || j > k) return false;
        const int64_t place = c - (x[2] + x[3] + x[4]);  // among slots and rings by turns
        if (place < 0 || place >= 2 * x[5] || place % 2 == 0 || x[6 + place - 1] != 1) return false;
        read = true;
      }
    }
    return read;
  }
};

// The units that spike, in order: listed once a step from their packed words, whoever wants them. Other words than
// those a kernel of units has made in this step are listed each time.
struct Spikes {
  std::vector<int32_t> units;
  bool listed = false;

  const std::vector<int32_t>& list(const uint32_t* words, int64_t n, int64_t of) {
    if (listed && of == kOfUnits) return units;
    units.clear();
    add(words, 0, n, units);
    listed = true;
    return units;
  }

  // Those of the units first..first+n-1, counted from `first`.
  void rows(const uint32_t* words, int64_t n_units, int64_t of, int64_t first, int64_t n, std::vector<int32_t>& rows) {
    const auto& all = list(words, n_units, of);
    const auto begin = std::lower_bound(all.begin(), all.end(), first);
    rows.assign(begin, std::lower_bound(begin, all.end(), first + n));
    for (int32_t& row : rows) row -= static_cast<int32_t>(first);
  }

  // Units begin..end-1 among them; `begin` is a multiple of 64.
  static void add(const uint32_t* words, int64_t begin, int64_t end, std::vector<int32_t>& units) {
    const int64_t n_words = (end + 31) / 32;
    int32_t some[2048];
    for (int64_t w = begin / 32; w < n_words;) {
      int64_t n = 0;
      for (const int64_t stop = std::min<int64_t>(w + 64, n_words); w < stop; w += 2) {
        uint64_t bits = words[w];
        if (w + 1 < n_words) bits |= static_cast<uint64_t>(words[w + 1]) << 32;
        // the first without asking for it, as nobody foresees where it is; a second is rare
        some[n] = static_cast<int32_t>(32 * w + __builtin_ctzll(bits | uint64_t{1} << 63));
        n += bits != 0;
        for (bits &= bits - 1; bits != 0; bits &= bits - 1) {
          some[n++] = static_cast<int32_t>(32 * w + __builtin_ctzll(bits));
        }
      }
      units.insert(units.end(), some, some + n);
    }
  }
};

// What one batch element needs while it runs.
struct Element {
  std::vector<char*> cell;
  std::vector<void*> scalars, from, to;
  std::vector<std::array<int32_t, 2>> tallies;
  std::vector<int32_t> rows;
  std::vector<char> values;                 // of events that have only words
  std::vector<Spikes> spikes;               // by the cell of their words
  std::vector<std::vector<int32_t>> lists;  // of spikes, by block of a pass over units
  std::vector<Filed> filed;                 // by instruction
  std::unique_ptr<char[]> scratch;
  bool last = false;  // step of the call

  template <typename T>
  T* at(int64_t k) const {
    return reinterpret_cast<T*>(cell[k]);
  }
};

// The elements of a call that is running: one for every thread at work, whose memory the next of the batch finds in
// place.
class Elements {
 public:
  // One of `cells` cells, still to be filled in, and `instructions`, with `bytes` of scratch.
  std::unique_ptr<Element> take(size_t cells, size_t instructions, int64_t bytes) {
    std::unique_ptr<Element> e;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!free_.empty()) {
        e = std::move(free_.back());
        free_.pop_back();
      }
    }
    if (e == nullptr) {
      e = std::make_unique<Element>();
      e->cell.reserve(cells);
      e->spikes.resize(cells);
      e->filed.resize(instructions);
      e->scratch.reset(new char[bytes + 64]);
    }
    e->cell.clear();
    for (Spikes& spikes : e->spikes) spikes.listed = false;
    return e;
  }

  void give(std::unique_ptr<Element> e) {
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(std::move(e));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Element>> free_;
};

void scalars(const Instruction& does, Element& e) {
  e.scalars.clear();
  for (int64_t k : does.cells) e.scalars.push_back(e.cell[k]);
  reinterpret_cast<void (*)(void* const*)>(does.kernel)(e.scalars.data());
}

// Adds up what scatter k has filed for a block of post units.
void deliver(const Tape& tape, int64_t k, Element& e, int64_t block) {
  const Instruction& does = tape.instructions[k];
  const int64_t ring = does.cells[0];
  const int64_t n_post = does.numbers[7];
  does.numbers[0] == 8 ? e.filed[k].deliver(e.at<double>(ring), n_post, block)
                       : e.filed[k].deliver(e.at<float>(ring), n_post, block);
}

// Adds up what scatters among `gets` have filed and nobody has added up yet.
void arrive(const Tape& tape, const std::vector<int64_t>& gets, Element& e, Team& team) {
  for (int64_t k : gets) {
    Filed& filed = e.filed[k];
    if (!filed.pending()) continue;
    parallel_for(team, filed.blocks(), [&](int64_t block) { deliver(tape, k, e, block); });
    filed.done();
  }
}

// cells: scalars, vectors, outputs, slots and rings by turns, words, count, bad.
// numbers: kernel, units, how many scalars, vectors, outputs, rings, then depth and bytes of a row of each ring.
void units(const Tape& tape, const Instruction& does, Element& e, Team& team) {
  const int64_t *c = does.cells.data(), *x = does.numbers.data();
  const int64_t n = x[1], n_rings = x[5], n_words = (n + 31) / 32;
  e.scalars.clear();
  e.from.clear();
  e.to.clear();
  for (int64_t k = 0; k < x[2]; ++k) e.scalars.push_back(e.cell[*c++]);
  for (int64_t k = 0; k < x[3]; ++k) e.from.push_back(e.cell[*c++]);
  for (int64_t k = 0; k < x[4]; ++k) e.to.push_back(e.cell[*c++]);
  for (int64_t k = 0; k < n_rings; ++k, c += 2) {
    e.from.push_back(e.cell[c[1]] + ring_row(*e.at<int32_t>(c[0]), x[6 + 2 * k]) * x[7 + 2 * k]);
  }
  auto* words = e.at<uint32_t>(c[0]);
  if (n_words > 0) words[n_words - 1] = 0;
  e.spikes[c[0]].listed = false;
  const auto kernel = reinterpret_cast<Kernel>(does.kernel);
  auto update = [&](int64_t begin, int64_t end, int32_t* tally) {
    kernel(e.scalars.data(), e.from.data(), e.to.data(), words, begin, end, tally);
  };
  const int64_t pieces = team.num_threads() > 1 ? kPieces * team.num_threads() : 1;
  const auto waits = std::find_if(does.gets.begin(), does.gets.end(), [&](int64_t k) { return e.filed[k].pending(); });
  if (waits != does.gets.end()) {  // all of them with the same blocks
    const int64_t size = int64_t{1} << e.filed[*waits].bits(), blocks = e.filed[*waits].blocks();
    e.tallies.resize(blocks);
    e.lists.resize(blocks);
    parallel_for(team, blocks, [&](int64_t block) {
      const int64_t begin = block * size, end = std::min(begin + size, n);
      for (int64_t k : does.gets) {
        if (e.filed[k].pending()) deliver(tape, k, e, block);
      }
      update(begin, end, e.tallies[block].data());
      e.lists[block].clear();
      Spikes::add(words, begin, end, e.lists[block]);
    });
    for (int64_t k : does.gets) e.filed[k].done();
    Spikes& spikes = e.spikes[c[0]];
    spikes.units.clear();
    for (const auto& list : e.lists) spikes.units.insert(spikes.units.end(), list.begin(), list.end());
    spikes.listed = true;
  } else {
    const int64_t size = std::max<int64_t>((n / pieces + 63) & -64, kChunk / 4);
    const int64_t chunks = std::max<int64_t>((n + size - 1) / size, 1);
    e.tallies.resize(chunks);
    parallel_for(team, chunks, [&](int64_t k) { update(k * size, std::min((k + 1) * size, n), e.tallies[k].data()); });
  }
  int32_t total = 0, any = 0;
  for (const auto& tally : e.tallies) {
    total += tally[0];
    any |= tally[1];
  }
  *e.at<int32_t>(c[1]) = total;
  *e.at<int32_t>(c[2]) = any;
}

// The connectivity of a scatter or gather. cells: base or what is gathered, value or c, weight, words or mask, slot,
// delay, indptr, indices. numbers: bytes of a float, rows, fanout, first, whether rows are sorted, whether there is one
// weight, depth, post units, synapses, which `Words` there are or whether a mask, whether delays, values (else every
// row with a word has the value 1), units, bytes of a target, whether lengths of stretches follow them.
Graph graph_of(const Instruction& does, const Element& e) {
  const int64_t *c = does.cells.data(), *x = does.numbers.data();
  Graph graph;
  graph.fanout = x[2];
  graph.indptr = graph.fanout >= 0 ? nullptr : e.at<int32_t>(c[6]);
  graph.indices = e.cell[c[7]];
  graph.width = x[13];
  if (x[14]) graph.stretches = e.at<uint8_t>(c[7]) + x[13] * x[8];
  graph.delay = x[10] ? e.at<int32_t>(c[5]) : nullptr;
  graph.n_syn = x[8];
  graph.depth = x[6];
  graph.slot = ring_row(*e.at<int32_t>(c[4]), x[6]);
  graph.n_post = static_cast<uint32_t>(x[7]);
  return graph;
}

template <typename T>
void scatter_step(const Tape& tape, int64_t k, Element& e, Team& team) {
  const Instruction& does = tape.instructions[k];
  const int64_t *c = does.cells.data(), *x = does.numbers.data();
  const int64_t n_pre = x[1], first = x[3];
  const T* value = x[11] ? e.at<T>(c[1]) + first : nullptr;
  const Scatter<T> one{e.at<T>(c[0]), value, {value, nullptr, first}, e.at<T>(c[2]), graph_of(does, e)};
  if (x[9]) {
    e.spikes[c[3]].rows(e.at<uint32_t>(c[3]), x[12], x[9], first, n_pre, e.rows);
  } else {
    list_rows(one.active, n_pre, e.rows);
  }
  const int64_t length = x[8] / std::max<int64_t>(n_pre, 1);  // of a row, about
  if (does.may_be_filed && !e.last && e.filed[k].file(team, one, e.rows, length, x[5] != 0)) return;
  arrive(tape, does.gets, e, team);
  scatter_one(team, one, e.rows, x[5] != 0, x[4] != 0);
}

template <typename T>
void gather_step(const Instruction& does, Element& e, Team& team) {
  const int64_t *c = does.cells.data(), *x = does.numbers.data();
  const int64_t n_pre = x[1], first = x[3];
  T* out = e.at<T>(c[0]);
  std::fill(out, out + first, T(0));
  std::fill(out + first + n_pre, out + x[12], T(0));
  const bool* wanted = x[9] ? e.at<bool>(c[3]) + first : nullptr;
  gather(team, std::vector<Gather<T>>{{out + first, e.at<T>(c[1]), e.at<T>(c[2]), wanted, graph_of(does, e)}}, n_pre,
         x[5] != 0);
}

// The window of a convolution, both ways. cells: ring, value, weight, words, slot; or back: result, ring, weight, mask,
// slot. numbers: bytes of a float, first, whether there is one weight, depth, which `Words` there are or whether a
// mask, whether values (else every unit with a word has the value 1), units, then those of the window.
Window window_of(const Instruction& does, const Element& e) {
  const int64_t* x = does.numbers.data();
  Window window = Window::of(x + 7);
  window.first = x[1];
  window.now = ring_row(*e.at<int32_t>(does.cells[4]), x[3]) * window.n_post();
  return window;
}

template <typename T>
void convolve_step(const Instruction& does, Element& e) {
  const int64_t *c = does.cells.data(), *x = does.numbers.data();
  const Window window = window_of(does, e);
  const T* value = x[5] ? e.at<T>(c[1]) + x[1] : nullptr;
  T *out = e.at<T>(c[0]), *weight = e.at<T>(c[2]);
  const bool one = x[2] != 0;
  if (!x[4]) return convolve_scatter(window, value, Active<T>{value, nullptr, x[1]}, weight, one, out);
  e.spikes[c[3]].rows(e.at<uint32_t>(c[3]), x[6], x[4], x[1], window.n_pre(), e.rows);
  if (static_cast<int64_t>(e.rows.size()) <= most_events<T>(window, window.out(), window.in(), one)) {
    return send_events(window, value, e.rows, weight, one, out);
  }
  if (value != nullptr) return dense_scatter(window, value, weight, out + window.now);
  e.values.assign(window.n_pre() * sizeof(T), 0);
  T* const ones = reinterpret_cast<T*>(e.values.data());
  for (int32_t row : e.rows) ones[row] = T(1);
  dense_scatter<T>(window, ones, weight, out + window.now);
}

template <typename T>
void convolve_back_step(const Instruction& does, Element& e) {
  const int64_t *c = does.cells.data(), *x = does.numbers.data();
  const Window window = window_of(does, e);
  T* out = e.at<T>(c[0]);
  std::fill(out, out + x[1], T(0));
  std::fill(out + x[1] + window.n_pre(), out + x[6], T(0));
  const bool* wanted = x[4] ? e.at<bool>(c[3]) + x[1] : nullptr;
  convolve_gather(window, e.at<T>(c[1]), e.at<T>(c[2]), x[2] != 0, wanted, out + x[1]);
}

// Rows that are drawn, both ways. cells: ring, value, weight, words, slot, seed, tables; or back: result, ring, weight,
// mask, slot, seed, tables. numbers: bytes of a float, depth, post units, which `Words` there are or whether a mask,
// whether values (else every row with a word has the value 1), units, then those of `Rows`.
Rows drawn_rows(const Instruction& does, const Element& e) {
  const int64_t *c = does.cells.data(), *x = does.numbers.data(), *r = x + 6;
  const int64_t now = ring_row(*e.at<int32_t>(c[4]), x[1]) * x[2] + r[7];
  const auto* tables = e.at<uint32_t>(c[6]);
  return {r[0],   r[1],
          r[2],   r[3],
          r[4],   r[5],
          r[6],   r[7],
          r[8],   r[9],
          r[10],  r[11],
          r[12],  r[13],
          now,    *e.at<Seed>(c[5]),
          tables, tables + kLogTable};
}

template <typename T>
void draw_step(const Instruction& does, Element& e, Team& team) {
  const int64_t *c = does.cells.data(), *x = does.numbers.data();
  const Rows rows = drawn_rows(does, e);
  const T* value = x[4] ? e.at<T>(c[1]) + rows.first : nullptr;
  const DrawnScatter<T> one{e.at<T>(c[0]), value, {value, nullptr, rows.first}, e.at<T>(c[2]), rows};
  if (x[3]) {
    e.spikes[c[3]].rows(e.at<uint32_t>(c[3]), x[5], x[3], rows.first, rows.n_pre, e.rows);
  } else {
    list_rows(one.active, rows.n_pre, e.rows);
  }
  drawn_scatter_one(team, one, e.rows);
}

template <typename T>
void draw_back_step(const Instruction& does, Element& e, Team& team) {
  const int64_t *c = does.cells.data(), *x = does.numbers.data();
  const Rows rows = drawn_rows(does, e);
  T* out = e.at<T>(c[0]);
  std::fill(out, out + x[5], T(0));
  const bool* wanted = x[3] ? e.at<bool>(c[3]) + rows.first : nullptr;
  drawn_gather(team, DrawnGather<T>{out + rows.first, e.at<T>(c[1]), e.at<T>(c[2]), wanted, rows});
}

// cells: list, length, value, words. numbers: bytes of a float, room, units, which `Words`, whether a value may stand
// for several events.
template <typename T>
void append_step(const Instruction& does, Element& e) {
  const int64_t *c = does.cells.data(), *x = does.numbers.data();
  int32_t *list = e.at<int32_t>(c[0]), *length = e.at<int32_t>(c[1]);
  if (!x[3] || x[4]) return append_active(Active<T>{e.at<T>(c[2]), nullptr, 0}, x[2], list, x[1], length, x[4] != 0);
  const auto& units = e.spikes[c[3]].list(e.at<uint32_t>(c[3]), x[2], x[3]);
  const int64_t have = *length, n = units.size();
  const int64_t room = have < 0 ? 0 : std::clamp<int64_t>(x[1] - have, 0, n);
  if (room > 0) std::copy_n(units.begin(), room, list + have);
  *length = static_cast<int32_t>(std::min<int64_t>(have + n, std::numeric_limits<int32_t>::max()));
}

// cells: values, other arrays, number of events, whether anything has diverged. numbers: bytes of a float, whether a
// value may stand for several events, then entries of each array.
template <typename T>
void tally_step(const Instruction& does, Element& e) {
  const int64_t *c = does.cells.data(), *x = does.numbers.data();
  const int64_t n_others = does.cells.size() - 3;
  *e.at<int32_t>(c[1 + n_others]) = x[1] ? count_events(e.at<T>(c[0]), x[2]) : count_values(e.at<T>(c[0]), x[2]);
  bool any = false;
  for (int64_t k = 1; k <= n_others; ++k) any |= any_diverged(e.at<T>(c[k]), x[2 + k]);
  *e.at<int32_t>(c[2 + n_others]) = any;
}

// Noise of n units as chunks of work: f(begin, end).
template <typename F>
void noise(int64_t n, Team& team, F&& f) {
  static_assert(kChunk % kDraws == 0);
  parallel_for(team, (n + kChunk - 1) / kChunk, [&](int64_t k) { f(k * kChunk, std::min((k + 1) * kChunk, n)); });
}

// cells: value, words, whether anything happens, indptr, other, order, how much of a log is used if there is one,
// scalars, values of rows, values at the far end, logs, values of synapses, sums. numbers: kernel, bytes of a float,
// rows, which `Words`, how many scalars, values of rows, at the far end, logs, values of synapses, sums, entries,
// whether there is an order, synapses of a vector, room of the log, the unit that is row 0, units.
template <typename T>
void rows_step(const Instruction& does, Element& e, Team& team) {
  const int64_t *c = does.cells.data(), *x = does.numbers.data();
  if (*e.at<int32_t>(c[2]) == 0) return;
  if (!x[3]) {
    list_rows(Active<T>{e.at<T>(c[0]) + x[14], nullptr, 0}, x[2], e.rows);
  } else {
    e.spikes[c[1]].rows(e.at<uint32_t>(c[1]), x[15], x[3], x[14], x[2], e.rows);
  }
  const auto& rows = e.rows;
  if (rows.empty()) return;
  const int64_t first = 6 + (x[7] > 0);
  e.scalars.clear();
  for (size_t k = first; k < does.cells.size(); ++k) e.scalars.push_back(e.cell[c[k]]);
  void* const* at = e.scalars.data();
  RowsCall call{};
  call.kernel = reinterpret_cast<RowsCall::Kernel>(does.kernel);
  call.indptr = e.at<int32_t>(c[3]);
  call.other = e.at<int32_t>(c[4]);
  call.order = x[11] ? e.at<int32_t>(c[5]) : nullptr;
  call.n_logs = x[7];
  call.n_values = x[8];
  call.n_sums = x[9];
  call.n_entries = x[10];
  call.lanes = x[12];
  call.width = x[1];
  call.scalars = at;
  call.near = at + x[4];
  call.far = call.near + x[5];
  call.synapses = call.far + x[6];
  if (call.n_logs > 0) {
    call.log = *e.at<int32_t>(c[6]) - call.entries(rows);
    if (call.log < 0 || *e.at<int32_t>(c[6]) > x[13]) return;  // what it was is not known
  }
  run_rows(team, call, rows);
}

// cells: value, words, indptr, order, values read, how much of the log is used, values changed. numbers: bytes of a
// float, rows, which `Words`, values of a synapse, whether there is an order, whether to undo, room of the log.
template <typename T>
void past_step(const Instruction& does, Element& e) {
  const int64_t *c = does.cells.data(), *x = does.numbers.data();
  if (!x[2]) list_rows(Active<T>{e.at<T>(c[0]), nullptr, 0}, x[1], e.rows);
  const auto& rows = x[2] ? e.spikes[c[1]].list(e.at<uint32_t>(c[1]), x[1], x[2]) : e.rows;
  const Past past{e.at<int32_t>(c[2]), x[4] ? e.at<int32_t>(c[3]) : nullptr, x[6], x[5] != 0};
  auto* used = e.at<int32_t>(c[4 + x[3]]);
  const int64_t before = *used;
  for (int64_t k = 0; k < x[3]; ++k) {
    *used = past.move(rows, before, e.at<T>(c[4 + k]), e.at<T>(c[5 + x[3] + k]));
  }
}

void step(const Tape& tape, Element& e, Team& team) {
  const auto n = static_cast<int64_t>(tape.instructions.size());
  for (int64_t k = 0; k < n; ++k) {
    const Instruction& does = tape.instructions[k];
    const bool wide = does.numbers[does.op == kRows ? 1 : 0] == 8;
    const int64_t* c = does.cells.data();
    switch (does.op) {
      case kScalars:
        scalars(does, e);
        break;
      case kUnits:
        units(tape, does, e, team);
        break;
      case kScatter:
        wide ? scatter_step<double>(tape, k, e, team) : scatter_step<float>(tape, k, e, team);
        break;
      case kAppend:
        wide ? append_step<double>(does, e) : append_step<float>(does, e);
        break;
      case kTally:
        wide ? tally_step<double>(does, e) : tally_step<float>(does, e);
        break;
      case kFold:  // cells: the new key, the key, the number
        *e.at<Seed>(c[0]) = fold_in(*e.at<Seed>(c[1]), *e.at<uint32_t>(c[2]));
        break;
      case kBits:  // cells: the words, the seed; numbers: bytes of a word, how many
        noise(does.numbers[1], team,
              [&](int64_t begin, int64_t end) { bulk_bits(*e.at<Seed>(c[1]), begin, end, e.at<uint32_t>(c[0])); });
        break;
      case kNormals:  // cells: the numbers, the seed, the table; numbers: bytes of a float, how many
        noise(does.numbers[1], team, [&](int64_t begin, int64_t end) {
          const Seed seed = *e.at<Seed>(c[1]);
          wide ? bulk_normals(seed, e.at<uint32_t>(c[2]), begin, end, e.at<double>(c[0]))
               : bulk_normals(seed, e.at<uint32_t>(c[2]), begin, end, e.at<float>(c[0]));
        });
        break;
      case kRows:
        wide ? rows_step<double>(does, e, team) : rows_step<float>(does, e, team);
        break;
      case kPast:
        wide ? past_step<double>(does, e) : past_step<float>(does, e);
        break;
      case kCopy:  // cells: to, from; numbers: bytes
        std::memcpy(e.cell[c[0]], e.cell[c[1]], does.numbers[0]);
        break;
      case kGather:
        wide ? gather_step<double>(does, e, team) : gather_step<float>(does, e, team);
        break;
      case kConvolve:
        wide ? convolve_step<double>(does, e) : convolve_step<float>(does, e);
        break;
      case kConvolveBack:
        wide ? convolve_back_step<double>(does, e) : convolve_back_step<float>(does, e);
        break;
      case kDraw:
        wide ? draw_step<double>(does, e, team) : draw_step<float>(does, e, team);
        break;
      case kDrawBack:
        wide ? draw_back_step<double>(does, e, team) : draw_back_step<float>(does, e, team);
        break;
      case kCollect: {  // cells: the ring, the row, the slot; numbers: bytes of a float, depth, bytes of a row
        const int64_t bytes = does.numbers[2];
        std::memcpy(e.cell[c[1]], e.cell[c[0]] + ring_row(*e.at<int32_t>(c[2]), does.numbers[1]) * bytes, bytes);
        break;
      }
      case kSkip:  // cells: which branch is taken; numbers: instructions of a branch, and which that is
        if (*e.at<int32_t>(c[0]) != does.numbers[1]) k += does.numbers[0];
        break;
      case kPlace: {  // cells: the ring, the row, the slot; numbers: bytes of a float, depth, bytes of a row
        const int64_t bytes = does.numbers[2];
        std::memcpy(e.cell[c[0]] + ring_row(*e.at<int32_t>(c[2]), does.numbers[1]) * bytes, e.cell[c[1]], bytes);
        break;
      }
    }
  }
}

// args: constants, carried arrays, rows in. rets: carried arrays, in place, rows out. `reverse`: from the last row to
// the first. `work`: units and synapses a step.
ffi::Error scan(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets, ffi::Span<const int64_t> code,
                int64_t length, int64_t reverse, int64_t rank, int64_t work) {
  Tape tape;
  if (!tape.read(code)) {
    return ffi::Error(ffi::ErrorCode::kFailedPrecondition,
                      "brainsim: this program was compiled in another process and its kernels are not here; trace it "
                      "again");
  }
  Batch batch(rank);
  std::vector<Operand> in, out;
  if (auto error = read_operands(args, rets, batch, in, out); error.failure()) return error;
  const auto n_in = static_cast<int64_t>(in.size()), n_out = static_cast<int64_t>(out.size());
  if (n_in != tape.n_consts + tape.n_carry + tape.n_xs || n_out != tape.n_carry + tape.n_ys) {
    return ffi::Error::InvalidArgument("scan: operands do not fit the tape");
  }
  std::vector<Axes> elements;
  batch.each([&](const Axes& b) { elements.push_back(b); });
  Elements spare;
  const size_t n_cells = n_in + tape.n_ys + tape.n_literals + tape.places.size();
  auto run = [&](int64_t item, Team& team, Trial* trial) {
    const Axes& b = elements[item];
    std::unique_ptr<Element> taken = spare.take(n_cells, tape.instructions.size(), tape.scratch_bytes);
    Element& e = *taken;
    for (int64_t k = 0; k < tape.n_consts; ++k) e.cell.push_back(in[k].at(b));
    for (int64_t k = 0; k < tape.n_carry; ++k) {
      const Operand &from = in[tape.n_consts + k], &to = out[k];
      if (from.at(b) != to.at(b)) std::memcpy(to.at(b), from.at(b), to.bytes());
      e.cell.push_back(to.at(b));
    }
    std::vector<int64_t> row;  // bytes from a row to the next of what changes from step to step
    auto rows = [&](const Operand& x) {
      const int64_t bytes = x.bytes() / std::max<int64_t>(length, 1);
      e.cell.push_back(x.at(b) + (reverse ? std::max<int64_t>(length - 1, 0) * bytes : 0));
      row.push_back(reverse ? -bytes : bytes);
    };
    for (int64_t k = 0; k < tape.n_xs; ++k) rows(in[tape.n_consts + tape.n_carry + k]);
    for (int64_t k = 0; k < tape.n_ys; ++k) rows(out[tape.n_carry + k]);
    const int64_t first_row = tape.n_consts + tape.n_carry;
    for (int64_t k = 0; k < tape.n_literals; ++k) {
      e.cell.push_back(const_cast<char*>(reinterpret_cast<const char*>(tape.literals + k)));
    }
    char* aligned = e.scratch.get() + (64 - reinterpret_cast<uintptr_t>(e.scratch.get()) % 64);
    for (int64_t place : tape.places) e.cell.push_back(aligned + place);
    for (int64_t t = 0; t < length; ++t) {
      e.last = t + 1 == length;
      trial != nullptr ? trial->step(team, [&] { step(tape, e, team); }) : step(tape, e, team);
      for (size_t k = 0; k < row.size(); ++k) e.cell[first_row + k] += row[k];
    }
    spare.give(std::move(taken));
  };
  const auto n = static_cast<int64_t>(elements.size());
  if (n == 1) {
    if (work < kWorkWorthATeam) {
      Team alone(pool, false);
      run(0, alone, nullptr);
    } else {
      Trial trial(tape.number);
      Team team(pool, true, trial.alone());
      run(0, team, &trial);
    }
  } else if (n * length * work < kWorthSharing) {
    Team alone(pool, false);
    for (int64_t item = 0; item < n; ++item) run(item, alone, nullptr);
  } else {
    parallel_for(pool, n, [&](int64_t item) {
      Team alone(pool, false);
      run(item, alone, nullptr);
    });
  }
  return ffi::Error::Success();
}

}  // namespace
}  // namespace brainsim

BRAINSIM_HANDLER(brainsim_scan, brainsim::scan,
                 xla::ffi::Ffi::Bind()
                     .Ctx<xla::ffi::ThreadPool>()
                     .RemainingArgs()
                     .RemainingRets()
                     .Attr<xla::ffi::Span<const int64_t>>("tape")
                     .Attr<int64_t>("length")
                     .Attr<int64_t>("reverse")
                     .Attr<int64_t>("rank")
                     .Attr<int64_t>("work"));
