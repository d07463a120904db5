#include "tests/fuzz/program_mutator.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kernel/program/outline.hpp"
#include "kernel/program/print.hpp"
#include "kernel/program/program.hpp"
#include "tests/support/tiny_program.hpp"

namespace troupe::fuzz {

namespace {

using program::ProgramT;

class mutator {
 public:
  explicit mutator(std::mt19937_64& random) : random_(random) {}

  // The number at a random place becomes another one. Works on any bytes.
  void overwrite(bytes& b) {
    if (b.empty()) return;
    const std::size_t width = std::size_t{1} << below(4);
    if (b.size() < width) return;
    const std::size_t at = below(b.size() / width) * width;
    std::uint64_t value = 0;
    std::memcpy(&value, b.data() + at, width);
    value = one_in(2) ? number() : value + below(5) - 2;
    std::memcpy(b.data() + at, &value, width);
  }

  void change(ProgramT& p) {
    switch (below(9)) {
      case 0:
        return change_op(p);
      case 1:
        return shuffle(p.ops);
      case 2:
        return shuffle(p.tensors);
      case 3:
        return shuffle(p.weights);
      case 4:
        return shuffle(p.caches);
      case 5:
        return change_tensor(p);
      case 6:
        return change_weight(p);
      case 7:
        return change_cache(p);
      default:
        p.logits = id(p.tensors.size());
    }
  }

  bool one_in(std::uint64_t n) { return below(n) == 0; }

 private:
  std::uint64_t below(std::uint64_t n) { return random_() % std::max<std::uint64_t>(n, 1); }

  std::uint64_t number() {
    static constexpr std::uint64_t edges[] = {0,
                                              1,
                                              2,
                                              3,
                                              4,
                                              7,
                                              8,
                                              16,
                                              0x7f,
                                              0xff,
                                              0xffff,
                                              0x10000,
                                              1u << 20,
                                              (1u << 20) + 1,
                                              0x7fffffff,
                                              0x80000000,
                                              0xffffffff,
                                              std::uint64_t{1} << 32,
                                              std::uint64_t{1} << 42,
                                              std::uint64_t{1} << 63,
                                              ~std::uint64_t{0}};
    return one_in(4) ? random_() : edges[below(std::size(edges))];
  }
  // Mostly one that exists.
  std::uint32_t id(std::size_t count) {
    return static_cast<std::uint32_t>(one_in(8) ? number() : below(count + 1));
  }

  // Doubles, removes or exchanges elements.
  template <class T>
  void shuffle(std::vector<std::unique_ptr<T>>& all) {
    if (all.empty()) return;
    const std::size_t at = below(all.size());
    switch (below(3)) {
      case 0:
        all.insert(all.begin() + static_cast<std::ptrdiff_t>(at), std::make_unique<T>(*all[at]));
        return;
      case 1:
        all.erase(all.begin() + static_cast<std::ptrdiff_t>(at));
        return;
      default:
        std::swap(all[at], all[below(all.size())]);
    }
  }

  void change_list(std::vector<std::uint32_t>& list, std::size_t count) {
    if (list.empty() || one_in(4))
      list.push_back(id(count));
    else if (one_in(4))
      list.pop_back();
    else
      list[below(list.size())] = id(count);
  }

  void change_shape(std::vector<std::uint64_t>& shape) {
    if (shape.empty() || one_in(6))
      shape.push_back(number());
    else if (one_in(6))
      shape.pop_back();
    else
      shape[below(shape.size())] = number();
  }

  void change_op(ProgramT& p) {
    if (p.ops.empty()) return;
    auto& op = *p.ops[below(p.ops.size())];
    switch (below(6)) {
      case 0:
        op.kind = static_cast<program::OpKind>(below(72));
        return;
      case 1:
        return change_list(op.inputs, p.tensors.size());
      case 2:
        return change_list(op.outputs, p.tensors.size());
      case 3:
        return change_list(op.weights, p.weights.size());
      case 4:
        op.cache = static_cast<std::int32_t>(id(p.caches.size()) - 1);
        return;
      default:
        op.attrs = p.ops[below(p.ops.size())]->attrs;
    }
  }

  void change_tensor(ProgramT& p) {
    if (p.tensors.empty()) return;
    auto& t = *p.tensors[below(p.tensors.size())];
    if (one_in(3)) t.rows = static_cast<program::Rows>(below(4));
    if (one_in(3)) t.dtype = static_cast<program::DType>(below(7));
    change_shape(t.shape);
  }

  void change_weight(ProgramT& p) {
    if (p.weights.empty()) return;
    auto& w = *p.weights[below(p.weights.size())];
    if (one_in(3)) w.role = static_cast<program::WeightRole>(below(12));
    if (one_in(3)) w.partition = static_cast<program::Partition>(below(6));
    if (one_in(3)) change_shape(w.shape);
    if (w.spellings.empty() || w.spellings[0]->sources.empty()) return;
    auto& spelling = *w.spellings[0];
    if (one_in(2)) spelling.combine = static_cast<program::Combine>(below(4));
    if (one_in(4)) shuffle(spelling.sources);
    if (spelling.sources.empty()) return;
    auto& source = *spelling.sources[0];
    if (one_in(3)) change_shape(source.reshape);
    if (one_in(3)) source.transpose = !source.transpose;
    if (one_in(3)) {
      source.slice_axis = static_cast<std::int32_t>(below(6)) - 2;
      source.slice_begin = number();
      source.slice_end = number();
    }
  }

  void change_cache(ProgramT& p) {
    if (p.caches.empty()) return;
    auto& c = *p.caches[below(p.caches.size())];
    if (one_in(3)) c.kind = static_cast<program::CacheKind>(below(4));
    if (one_in(3)) c.layers = static_cast<std::uint32_t>(number());
    if (one_in(3)) c.kv_heads = static_cast<std::uint32_t>(number());
    if (one_in(3)) c.head_dim = static_cast<std::uint32_t>(number());
    if (one_in(3)) c.window = static_cast<std::uint32_t>(number());
    if (one_in(3)) c.dtype = static_cast<program::DType>(below(7));
    if (one_in(3)) change_shape(c.shape);
  }

  std::mt19937_64& random_;
};

// True = a FlatBuffer that may be read, its elements aligned and not too many, whatever else is wrong with the Program: a refusal
// names the place, which is the program itself for those.
bool is_whole(std::span<const std::uint8_t> program) {
  const auto verified = program::verify(program);
  return verified || !verified.error().text.starts_with("program:");
}

}  // namespace

bytes seed_program() {
  return test::tiny_program::bytes(test::tiny_program::make());
}

bytes mutate(std::span<const std::uint8_t> program, std::mt19937_64& random, std::size_t limit) {
  mutator m(random);
  // What a FlatBuffer reader may ask of its bytes: they begin aligned. A vector does.
  bytes changed(program.begin(), program.end());
  const auto times = 1 + random() % 4;
  if (m.one_in(2) && is_whole(changed)) {
    ProgramT object;
    program::GetProgram(changed.data())->UnPackTo(&object);
    for (auto& op : object.ops)  // a kind of attributes without attributes cannot be written again
      if (op->attrs.value == nullptr) op->attrs.Reset();
    for (std::uint64_t i = 0; i < times; ++i) m.change(object);
    if (auto packed = test::tiny_program::bytes(object); packed.size() <= limit) changed = std::move(packed);
  } else {
    for (std::uint64_t i = 0; i < times; ++i) m.overwrite(changed);
    if (m.one_in(50)) changed.resize(random() % (changed.size() + 1));
  }
  if (changed.size() > limit) changed.resize(limit);
  return changed;
}

bool check(std::span<const std::uint8_t> program) {
  const auto verified = program::verify(program);
  if (!verified) {
    if (verified.error().text.empty() || verified.error().code != error_code::bad_program) std::abort();
    return false;
  }
  if (!std::ranges::equal(verified->bytes(), program)) std::abort();
  const auto& p = **verified;
  const auto counts = program::count_parameters(p);
  if (counts.active > counts.total && counts.total != 0) std::abort();
  (void)program::kv_bytes_per_token(p, 2);
  (void)program::outline(p, true);
  if (program::print(p).empty() || program::print_json(p).empty()) std::abort();
  return true;
}

}  // namespace troupe::fuzz
