// Native ops on memory of their own, each piece between pages that may not be touched: what they write is all of their outputs
// and states, and nothing else. The bodies run in a child of this process, so that a fault is a failed case.
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernel/program/names.hpp"
#include "kernel/program/native_ops.hpp"
#include "sandbox/conformance/subject.hpp"

namespace troupe::conformance {

namespace {

constexpr std::uint64_t rows = 12;
constexpr std::array<std::uint32_t, 4> sequence_rows = {0, 7, 7, 12};  // the second has none: its states stay
constexpr std::array<std::uint32_t, 3> positions = {0, 3, 5};
constexpr std::uint32_t untouched = 0x7fc0dead;  // a NaN that no arithmetic makes

// `bytes`, aligned to 64, that end where a page begins that nobody may touch; another one stands before them.
class guarded {
 public:
  explicit guarded(std::size_t bytes) : bytes_(bytes) {
    const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t padded = (bytes + 63) / 64 * 64;
    const std::size_t inner = std::max(page, (padded + page - 1) / page * page);
    mapped_ = inner + 2 * page;
    void* at = ::mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw std::bad_alloc();
    begin_ = static_cast<std::byte*>(at);
    inner_ = begin_ + page;
    inner_bytes_ = inner;
    ::mprotect(inner_, inner, PROT_READ | PROT_WRITE);
    // What stands between the data and the pages around it must not change either.
    std::ranges::fill(std::span(inner_, inner), canary);
    data_ = inner_ + inner - padded;
  }
  ~guarded() { ::munmap(begin_, mapped_); }
  guarded(const guarded&) = delete;
  guarded& operator=(const guarded&) = delete;

  void* data() const { return data_; }
  std::span<float> floats() const { return {reinterpret_cast<float*>(data_), bytes_ / sizeof(float)}; }
  void make_read_only() { ::mprotect(inner_, inner_bytes_, PROT_READ); }
  bool surroundings_are_whole() const {
    const auto is_canary = [](std::byte b) { return b == canary; };
    return std::all_of(inner_, data_, is_canary) &&
           std::all_of(data_ + bytes_, inner_ + inner_bytes_, is_canary);
  }

 private:
  static constexpr std::byte canary{0xa5};
  std::size_t bytes_, mapped_ = 0, inner_bytes_ = 0;
  std::byte *begin_ = nullptr, *inner_ = nullptr, *data_ = nullptr;
};
using guarded_ptr = std::unique_ptr<guarded>;

std::uint64_t elements(const std::uint64_t* shape, std::uint32_t rank) {
  std::uint64_t n = 1;
  for (std::uint32_t i = 0; i < rank; ++i) n *= shape[i];
  return n;
}

// The same numbers each time, in [-1, 1).
float number(std::uint64_t i) {
  return static_cast<float>((i * 2654435761u >> 7) % 2048) / 1024.0F - 1.0F;
}

void parallel_for(void*, std::uint64_t count, std::uint64_t grain, troupe_native_part part, void* context) {
  const std::uint64_t size = std::max<std::uint64_t>(grain, 1);
  for (std::uint64_t at = 0; at < count; at += size) part(context, at, std::min(count, at + size), 0);
}

// One use of a native op, with everything that it may touch.
class trial {
 public:
  trial(const program::Program& p, const program::Op& op, const troupe_native_op& native)
      : use_(p, op), native_(native) {
    const bool of_tokens = use_.table().rows_of == TROUPE_TOKENS;
    for (auto& t : use_.inputs()) inputs_.push_back(place(t));
    for (auto& t : use_.outputs()) outputs_.push_back(place(t));
    for (auto& w : use_.weights()) place(w);
    place_states(of_tokens ? sequence_rows.size() - 1 : 0);
    step_.struct_size = sizeof step_;
    step_.threads = 1;
    step_.rows = rows;
    step_.sequences = of_tokens ? static_cast<std::uint32_t>(positions.size()) : 0;
    step_.sequence_rows = of_tokens ? sequence_rows.data() : nullptr;
    step_.positions = of_tokens ? positions.data() : nullptr;
    step_.states = tables_.data();
    step_.parallel_for = &parallel_for;
    if (native.workspace != nullptr)
      if (const auto bytes = native.workspace(&use_.table(), rows, step_.sequences, 1); bytes > 0) {
        workspace_ = std::make_unique<guarded>(bytes);
        step_.workspace = workspace_->data();
      }
  }

  // Empty = it wrote what it should and nothing else.
  std::string run() {
    fill();
    if (native_.cpu(&use_.table(), &step_) != TROUPE_OK) {
      const auto why = use_.take_problem();
      return why.empty() ? "fails without a reason" : "fails: " + why;
    }
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      const auto out = outputs_[i]->floats();
      const auto missed =
          std::ranges::find_if(out, [](float x) { return std::bit_cast<std::uint32_t>(x) == untouched; });
      if (missed != out.end())
        return fmt::format("output {}: does not write element {} of {}", native_.outputs[i].name,
                           missed - out.begin(), out.size());
      if (!outputs_[i]->surroundings_are_whole())
        return fmt::format("output {}: writes beside it", native_.outputs[i].name);
    }
    if (workspace_ && !workspace_->surroundings_are_whole()) return "writes beside its workspace";
    return state_problem();
  }

 private:
  guarded_ptr place(troupe_tensor& t) {
    t.shape[0] = rows;
    auto memory = std::make_unique<guarded>(elements(t.shape, t.rank) * 4);
    t.data = memory->data();
    return memory;
  }

  void place(troupe_weight& w) {
    w.dtype = TROUPE_F32;
    const std::uint64_t count = w.rank == 3 ? w.shape[0] : 1;
    const std::uint64_t each = elements(w.shape, w.rank) / count;
    auto& planes = planes_.emplace_back();
    for (std::uint64_t i = 0; i < count; ++i) {
      auto memory = std::make_unique<guarded>(each * sizeof(float));
      for (std::uint64_t j = 0; j < each; ++j) memory->floats()[j] = 0.25F * number(i * each + j);
      memory->make_read_only();
      planes.push_back(memory->data());
      weights_.push_back(std::move(memory));
    }
    w.planes = planes.data();
  }

  void place_states(std::size_t sequences) {
    const auto& table = use_.table();
    for (std::uint32_t s = 0; s < table.state_count; ++s) {
      auto& row = state_rows_.emplace_back();
      for (std::size_t q = 0; q < sequences; ++q) {
        states_.push_back(
            std::make_unique<guarded>(elements(table.states[s].shape, table.states[s].rank) * sizeof(float)));
        row.push_back(states_.back()->floats().data());
      }
    }
    for (const auto& row : state_rows_) tables_.push_back(row.data());
  }

  void fill() {
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const auto in = inputs_[i]->floats();
      for (std::size_t j = 0; j < in.size(); ++j)
        in[j] = use_.inputs()[i].dtype == TROUPE_I32 ? 0.0F : number(31 * i + j);
      inputs_[i]->make_read_only();
    }
    for (const auto& out : outputs_) std::ranges::fill(out->floats(), std::bit_cast<float>(untouched));
    for (std::size_t i = 0; i < states_.size(); ++i) {
      const bool begins = positions[i % positions.size()] == 0;
      for (std::size_t j = 0; j < states_[i]->floats().size(); ++j)
        states_[i]->floats()[j] = begins ? 0.0F : 0.5F * number(17 * i + j);
      before_.emplace_back(states_[i]->floats().begin(), states_[i]->floats().end());
    }
  }

  std::string state_problem() const {
    for (std::size_t i = 0; i < states_.size(); ++i) {
      const auto name = native_.states[i / positions.size()].name;
      const std::size_t q = i % positions.size();
      if (!states_[i]->surroundings_are_whole()) return fmt::format("state {}: writes beside it", name);
      if (sequence_rows[q] == sequence_rows[q + 1] &&
          std::memcmp(before_[i].data(), states_[i]->data(), before_[i].size() * sizeof(float)) != 0)
        return fmt::format("state {}: changes that of a sequence which has no rows in the step", name);
    }
    return {};
  }

  program::native_use use_;
  const troupe_native_op& native_;
  std::vector<guarded_ptr> inputs_, outputs_, weights_, states_;
  guarded_ptr workspace_;
  std::vector<std::vector<const void*>> planes_;
  std::vector<std::vector<float*>> state_rows_;
  std::vector<float* const*> tables_;
  std::vector<std::vector<float>> before_;
  troupe_native_step step_ = {};
};

// Of one op of a Program: the sentence to show, empty = it does as it should. In a child: opening the module's library already runs code
// of it.
std::string problem_of(const subject& s, const program::Program& p, std::uint32_t i) {
  const auto& op = *p.ops()->Get(i);
  const auto& attrs = *op.attrs_as_NativeAttrs();
  const auto answer = in_a_child(
      [&](const sign_of_life&) -> std::string {
        const auto ops = s.module().native_ops();
        if (!ops) return ops.error().text;
        const auto* native = ops->find(program::text(attrs.op()), attrs.version());
        return native == nullptr ? "the module has no such op" : trial(p, op, *native).run();
      },
      s.limits());
  if (answer.end.find("SIGSEGV") != answer.end.npos || answer.end.find("SIGBUS") != answer.end.npos)
    return answer.end + ": touches what it may not";
  return answer.end.empty() ? answer.text : answer.end;
}

}  // namespace

check::group check_guards(const subject& s, const std::vector<small_model>& models) {
  check::group out("guards");
  if (!s.module().trust()) {
    out.block(s.module().trust().error().text);
    return out;
  }
  for (const auto& m : models) {
    const auto& p = *m.program;
    for (std::uint32_t i = 0; i < p.ops()->size(); ++i) {
      if (p.ops()->Get(i)->attrs_as_NativeAttrs() == nullptr) continue;
      s.progressed(out.name(), i, p.ops()->size());
      out.add(fmt::format("{}, {}", m.name, program::native_op_text(p, i)), problem_of(s, p, i));
    }
  }
  if (out.cases() == 0) {
    out.pass();
    out.note("no configuration uses its native ops");
  }
  return out;
}

}  // namespace troupe::conformance
