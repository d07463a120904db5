#include <algorithm>
#include <unordered_map>

#include "kernel/program/diff_parts.hpp"
#include "kernel/program/names.hpp"
#include "kernel/program/outline.hpp"

namespace troupe::program {

namespace {

constexpr std::uint32_t none = ~std::uint32_t{0};

// All that says where the numbers come from: the key by which spellings are compared.
std::string key_of(const Spelling& spelling) {
  auto out = name_of(spelling.combine());
  for (const auto* source : *spelling.sources()) out += "\n" + source_text(*source, false);
  return out;
}

struct entry {
  const Weight* weight = nullptr;
  std::vector<std::string> spellings;  // keys
  std::string identity;                // shape and spellings
  std::uint32_t partner = none;
};

std::vector<entry> entries(const Program& program) {
  std::vector<entry> out;
  for (const auto* weight : *program.weights()) {
    entry e{weight, {}, shape_text(values(weight->shape())), none};
    for (const auto* spelling : *weight->spellings()) {
      e.spellings.push_back(key_of(*spelling));
      e.identity += "\n\n" + e.spellings.back();
    }
    out.push_back(std::move(e));
  }
  return out;
}

// By name first; what is left by what it is in the checkpoint.
void pair_up(std::vector<entry>& before, std::vector<entry>& after) {
  const auto pair_by = [&](const auto& key_of_entry) {
    std::unordered_map<std::string, std::uint32_t> known;
    for (std::uint32_t i = 0; i < after.size(); ++i)
      if (after[i].partner == none) known.emplace(key_of_entry(after[i]), i);
    for (std::uint32_t i = 0; i < before.size(); ++i) {
      if (before[i].partner != none) continue;
      const auto found = known.find(key_of_entry(before[i]));
      if (found == known.end() || after[found->second].partner != none) continue;
      before[i].partner = found->second;
      after[found->second].partner = i;
    }
  };
  pair_by([](const entry& e) { return e.weight->name()->str(); });
  pair_by([](const entry& e) { return e.identity; });
}

std::string spellings_text(const Weight& weight) {
  std::string out;
  for (const auto* spelling : *weight.spellings())
    out += (out.empty() ? "" : " or ") + spelling_text(*spelling, false);
  return out;
}

std::string declaration(const Weight& weight) {
  return fmt::format("{}, {}split by {}", name_of(weight.role()), weight.quantizable() ? "quantizable, " : "",
                     name_of(weight.partition()));
}

// The most that changes decides what is said; `what` is empty if nothing does.
weight_change compare(const entry& a, const entry& b) {
  const Weight &m = *a.weight, &n = *b.weight;
  weight_change out{n.name()->str(), weight_fate::shared, {}, {}, {}};
  const auto say = [&](const char* what, weight_fate fate, std::string before, std::string after) {
    out.what = what, out.fate = fate, out.before = std::move(before), out.after = std::move(after);
  };
  if (values(m.shape()) != values(n.shape())) {
    say("reshaped", weight_fate::loaded, shape_text(values(m.shape())), shape_text(values(n.shape())));
  } else if (a.spellings != b.spellings) {
    const bool common = std::any_of(a.spellings.begin(), a.spellings.end(), [&](const auto& s) {
      return std::find(b.spellings.begin(), b.spellings.end(), s) != b.spellings.end();
    });
    say("stored elsewhere", common ? weight_fate::perhaps : weight_fate::loaded, spellings_text(m),
        spellings_text(n));
  } else if (declaration(m) != declaration(n)) {
    const bool same_form = m.quantizable() == n.quantizable() && m.partition() == n.partition();
    say("declared otherwise", same_form ? weight_fate::shared : weight_fate::loaded, declaration(m),
        declaration(n));
  } else if (text(m.name()) != text(n.name())) {
    say("renamed", weight_fate::shared, m.name()->str(), n.name()->str());
  }
  return out;
}

void count(difference& out, weight_fate fate, const Weight& weight) {
  difference::share& share = fate == weight_fate::shared    ? out.shared
                             : fate == weight_fate::perhaps ? out.perhaps
                             : fate == weight_fate::loaded  ? out.loaded
                                                            : out.dropped;
  std::uint64_t elements = 1;
  for (const auto dimension : *weight.shape()) elements *= dimension;
  ++share.weights;
  share.bytes += 2 * elements;
}

}  // namespace

weight_pairs diff_weights(const Program& before, const Program& after, difference& out) {
  auto a = entries(before), b = entries(after);
  pair_up(a, b);
  weight_pairs pairs;
  for (std::uint32_t i = 0; i < a.size(); ++i) {
    pairs.before.push_back(i);
    if (a[i].partner != none) continue;
    out.weights.push_back({a[i].weight->name()->str(),
                           weight_fate::dropped,
                           "removed",
                           shape_text(values(a[i].weight->shape())),
                           {}});
    count(out, weight_fate::dropped, *a[i].weight);
  }
  for (std::uint32_t i = 0; i < b.size(); ++i) {
    pairs.after.push_back(b[i].partner != none ? b[i].partner : static_cast<std::uint32_t>(a.size()) + i);
    auto change = b[i].partner != none ? compare(a[b[i].partner], b[i])
                                       : weight_change{b[i].weight->name()->str(),
                                                       weight_fate::loaded,
                                                       "added",
                                                       {},
                                                       shape_text(values(b[i].weight->shape()))};
    count(out, change.fate, *b[i].weight);
    if (!change.what.empty()) out.weights.push_back(std::move(change));
  }
  return pairs;
}

}  // namespace troupe::program
