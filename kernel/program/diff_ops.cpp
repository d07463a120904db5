// Ops and probes: layer by layer, the longest common run of ops, then what differs in the ops of both.
#include <algorithm>
#include <unordered_map>

#include "kernel/program/diff_parts.hpp"
#include "kernel/program/names.hpp"
#include "kernel/program/outline.hpp"

namespace troupe::program {

namespace {

constexpr std::uint32_t none = ~std::uint32_t{0};
// Beyond this many comparisons for one layer the ops between its equal ends are all taken for changed.
constexpr std::uint64_t most_comparisons = std::uint64_t{1} << 24;

// "linear", "native selective_scan"
std::string kind_of(const Op& op) {
  const auto* native = op.attrs_as_NativeAttrs();
  return native == nullptr ? name_of(op.kind())
                           : fmt::format("{} {}", name_of(op.kind()), text(native->op()));
}

// One of the two Programs, with what its ops are compared by.
struct side {
  side(const Program& p, const std::vector<std::uint32_t>& weight_numbers)
      : program(p), maker(p.tensors()->size(), none) {
    for (std::uint32_t i = 0; i < p.ops()->size(); ++i) {
      const Op& op = *p.ops()->Get(i);
      auto label = kind_of(op);
      for (const auto id : values(op.weights())) label += fmt::format(" {}", weight_numbers[id]);
      labels.push_back(std::move(label));
      for (const auto id : values(op.outputs())) maker[id] = i;
      layers[std::string(layer_scope(text(op.scope())))].push_back(i);
    }
    partner.assign(labels.size(), none);
  }

  const Program& program;
  std::vector<std::string> labels;   // of ops: kind and weights
  std::vector<std::uint32_t> maker;  // per tensor: the op that defines it
  std::unordered_map<std::string, std::vector<std::uint32_t>> layers;
  std::vector<std::uint32_t> partner;  // per op: the same op of the other Program
};

std::string shapes(const Program& program, const flatbuffers::Vector<std::uint32_t>* ids) {
  std::string out;
  for (const auto id : values(ids)) {
    const Tensor& tensor = *program.tensors()->Get(id);
    out += (out.empty() ? "" : ", ") + shape_text(tensor);
    if (tensor.dtype() != DType::f32) out += " " + name_of(tensor.dtype());
  }
  return out.empty() ? "()" : out;
}

// "linear self_attn.q_proj.weight", as in the layer `scope`
std::string name_in(const Program& program, const Op& op, std::string_view scope) {
  auto out = kind_of(op);
  std::string_view separator = " ";
  for (const auto id : values(op.weights())) {
    auto name = text(program.weights()->Get(id)->name());
    if (!scope.empty() && name.substr(0, scope.size()) == scope && name.size() > scope.size())
      name.remove_prefix(scope.size() + 1);
    out += fmt::format("{}{}", separator, name);
    separator = ", ";
  }
  return out;
}

// The op that made each input, by name, and its layer if it is another.
std::string inputs_text(const side& s, const Op& op, std::string_view scope) {
  std::string out;
  for (const auto id : values(op.inputs())) {
    const Op& made_by = *s.program.ops()->Get(s.maker[id]);
    const auto layer = layer_scope(text(made_by.scope()));
    out += fmt::format("{}{}", out.empty() ? "" : ", ", name_in(s.program, made_by, layer));
    if (layer != scope) out += layer.empty() ? " (outside of layers)" : fmt::format(" ({})", layer);
  }
  return out;
}

// All that can change in an op that stays the same op, but its inputs and where its state is.
std::string details(const Program& program, const Op& op) {
  const auto out = attributes(program, op);
  return fmt::format("{}{}{} -> {}", out, out.empty() ? "" : "; ", shapes(program, op.inputs()),
                     shapes(program, op.outputs()));
}

// Which layers of its caches it uses: "cache layer 3".
std::string cache_layers(const Op& op) {
  if (const auto* a = op.attrs_as_AttentionAttrs()) return fmt::format("cache layer {}", a->cache_layer());
  std::string out;
  if (const auto* a = op.attrs_as_NativeAttrs(); a != nullptr && a->states() != nullptr)
    for (const auto* state : *a->states())
      out += fmt::format("{}cache layer {}", out.empty() ? "" : ", ", state->layer());
  return out;
}

// ---- pairing -------------------------------------------------------------------------------------------

using indices = std::vector<std::uint32_t>;

// Pairs the longest common subsequence of a[from, a_end) and b[from, b_end).
void pair_middle(side& m, side& n, const indices& a, const indices& b, std::size_t from, std::size_t a_end,
                 std::size_t b_end) {
  const std::size_t rows = a_end - from, columns = b_end - from;
  if (rows == 0 || columns == 0 || rows * columns > most_comparisons) return;
  std::vector<std::uint32_t> length((rows + 1) * (columns + 1));  // of the tails from (i, j)
  const auto at = [&](std::size_t i, std::size_t j) -> std::uint32_t& {
    return length[i * (columns + 1) + j];
  };
  const auto same = [&](std::size_t i, std::size_t j) {
    return m.labels[a[from + i]] == n.labels[b[from + j]];
  };
  for (std::size_t i = rows; i-- > 0;)
    for (std::size_t j = columns; j-- > 0;)
      at(i, j) = same(i, j) ? at(i + 1, j + 1) + 1 : std::max(at(i + 1, j), at(i, j + 1));
  for (std::size_t i = 0, j = 0; i < rows && j < columns;) {
    if (same(i, j)) {
      m.partner[a[from + i]] = b[from + j];
      n.partner[b[from + j]] = a[from + i];
      ++i, ++j;
    } else {
      at(i + 1, j) >= at(i, j + 1) ? ++i : ++j;
    }
  }
}

void pair_layer(side& m, side& n, const indices& a, const indices& b) {
  const auto join = [&](std::uint32_t i, std::uint32_t j) { m.partner[i] = j, n.partner[j] = i; };
  std::size_t from = 0, a_end = a.size(), b_end = b.size();
  for (; from < std::min(a_end, b_end) && m.labels[a[from]] == n.labels[b[from]]; ++from)
    join(a[from], b[from]);
  for (; a_end > from && b_end > from && m.labels[a[a_end - 1]] == n.labels[b[b_end - 1]]; --a_end, --b_end)
    join(a[a_end - 1], b[b_end - 1]);
  pair_middle(m, n, a, b, from, a_end, b_end);
}

// ---- what differs ---------------------------------------------------------------------------------------

// Whether tensor `a` of the first Program is tensor `b` of the second: the same output of the same op.
bool same_tensor(const side& m, const side& n, std::uint32_t a, std::uint32_t b) {
  const auto i = m.maker[a], j = n.maker[b];
  if (m.partner[i] != j) return false;
  const auto x = values(m.program.ops()->Get(i)->outputs()), y = values(n.program.ops()->Get(j)->outputs());
  const auto place = [](const auto& ids, std::uint32_t id) {
    return std::find(ids.begin(), ids.end(), id) - ids.begin();
  };
  return x.size() == y.size() && place(x, a) == place(y, b);
}

bool same_inputs(const side& m, const side& n, const Op& a, const Op& b) {
  const auto x = values(a.inputs()), y = values(b.inputs());
  return std::equal(x.begin(), x.end(), y.begin(), y.end(),
                    [&](auto i, auto j) { return same_tensor(m, n, i, j); });
}

void compare_pair(const side& m, const side& n, std::uint32_t i, const std::string& scope, difference& out) {
  const Op &a = *m.program.ops()->Get(i), &b = *n.program.ops()->Get(m.partner[i]);
  const auto name = name_in(n.program, b, scope);
  const auto x = details(m.program, a), y = details(n.program, b);
  if (x != y) out.ops.push_back({scope, fmt::format("{}  {}", name, x), fmt::format("{}  {}", name, y)});
  if (cache_layers(a) != cache_layers(b))
    out.ops.push_back(
        {scope, fmt::format("{}  {}", name, cache_layers(a)), fmt::format("{}  {}", name, cache_layers(b))});
  if (!same_inputs(m, n, a, b))
    out.ops.push_back({scope, fmt::format("{}  of {}", name, inputs_text(m, a, scope)),
                       fmt::format("{}  of {}", name, inputs_text(n, b, scope))});
}

std::string whole(const Program& program, const Op& op, std::string_view scope) {
  return fmt::format("{}  {}", name_in(program, op, scope), details(program, op));
}

// In the order of the first Program, with what the second adds behind the op that it follows there.
void compare_layer(const side& m, const side& n, const std::string& scope, const indices& a, const indices& b,
                   difference& out) {
  std::size_t j = 0;
  const auto added_up_to = [&](std::uint32_t end) {
    for (; j < b.size() && b[j] != end; ++j)
      if (n.partner[b[j]] == none)
        out.ops.push_back({scope, {}, whole(n.program, *n.program.ops()->Get(b[j]), scope)});
  };
  for (const auto i : a) {
    if (m.partner[i] == none) {
      out.ops.push_back({scope, whole(m.program, *m.program.ops()->Get(i), scope), {}});
      continue;
    }
    added_up_to(m.partner[i]);
    compare_pair(m, n, i, scope, out);
  }
  added_up_to(none);
}

// Layers in the order in which the Programs run them, each once.
std::vector<std::string> layers_of(const Program& before, const Program& after) {
  std::vector<std::string> out;
  std::unordered_map<std::string, bool> known;
  for (const auto* program : {&before, &after})
    for (const auto* op : *program->ops())
      if (std::string layer(layer_scope(text(op->scope()))); known.emplace(layer, true).second)
        out.push_back(std::move(layer));
  return out;
}

void diff_probes(const side& m, const side& n, difference& out) {
  const auto named = [](const Program& program) {
    std::unordered_map<std::string, std::uint32_t> all;
    if (program.probes() != nullptr)
      for (const auto* probe : *program.probes()) all.emplace(probe->name()->str(), probe->tensor());
    return all;
  };
  const auto made_by = [](const side& s, std::uint32_t tensor) {
    const Op& op = *s.program.ops()->Get(s.maker[tensor]);
    return name_in(s.program, op, layer_scope(text(op.scope())));
  };
  const auto a = named(m.program), b = named(n.program);
  for (const auto& [name, tensor] : a) {
    const auto found = b.find(name);
    if (found == b.end())
      out.probes.push_back({name, made_by(m, tensor), {}});
    else if (!same_tensor(m, n, tensor, found->second))
      out.probes.push_back({name, made_by(m, tensor), made_by(n, found->second)});
  }
  for (const auto& [name, tensor] : b)
    if (!a.contains(name)) out.probes.push_back({name, {}, made_by(n, tensor)});
  std::sort(out.probes.begin(), out.probes.end(),
            [](const auto& x, const auto& y) { return x.field < y.field; });
}

}  // namespace

void diff_ops(const Program& before, const Program& after, const weight_pairs& weights, difference& out) {
  side m(before, weights.before), n(after, weights.after);
  const auto layers = layers_of(before, after);
  for (const auto& layer : layers) pair_layer(m, n, m.layers[layer], n.layers[layer]);
  for (const auto& layer : layers) compare_layer(m, n, layer, m.layers[layer], n.layers[layer], out);
  if (!same_tensor(m, n, before.logits(), after.logits()))
    out.ops.push_back(
        {{}, fmt::format("logits  t{}", before.logits()), fmt::format("logits  t{}", after.logits())});
  diff_probes(m, n, out);
}

}  // namespace troupe::program
