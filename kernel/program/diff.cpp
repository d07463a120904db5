// Facts and caches; ops are in diff_ops.cpp, weights in diff_weights.cpp.
#include "kernel/program/diff.hpp"

#include <algorithm>

#include "kernel/program/diff_parts.hpp"
#include "kernel/program/names.hpp"
#include "kernel/program/outline.hpp"

namespace troupe::program {

namespace {

void diff_facts(const Program& before, const Program& after, difference& out) {
  const auto add = [&](const char* field, const auto& a, const auto& b) {
    if (a != b) out.facts.push_back({field, fmt::format("{}", a), fmt::format("{}", b)});
  };
  const Facts &a = *before.facts(), &b = *after.facts();
  const auto ids = [](const Facts& f) { return fmt::format("[{}]", fmt::join(values(f.eos_ids()), ", ")); };
  const auto version = [](const Program& p) {
    return fmt::format("{}.{}", p.version_major(), p.version_minor());
  };
  add("program version", version(before), version(after));
  add("architecture", text(a.architecture()), text(b.architecture()));
  add("vocabulary", a.vocabulary(), b.vocabulary());
  add("hidden", a.hidden(), b.hidden());
  add("layers", a.layers(), b.layers());
  add("context_tokens", a.context_tokens(), b.context_tokens());
  add("bos_id", a.bos_id(), b.bos_id());
  add("eos_ids", ids(a), ids(b));
  add("chat_template", text(a.chat_template()), text(b.chat_template()));
  const auto m = count_parameters(before), n = count_parameters(after);
  add("parameters", m.total, n.total);
  add("active parameters", m.active, n.active);
  add("cache bytes per token (bf16)", kv_bytes_per_token(before, 2), kv_bytes_per_token(after, 2));
  add("state bytes per sequence", state_bytes_per_sequence(before), state_bytes_per_sequence(after));
}

const Cache* find(const Program& program, std::string_view name) {
  for (const auto* cache : *program.caches())
    if (text(cache->name()) == name) return cache;
  return nullptr;
}

// A narrower window needs nothing that a wider one has not kept.
bool window_suffices(const Cache& before, const Cache& after) {
  return before.window() == 0 || (after.window() != 0 && after.window() <= before.window());
}

cache_change compare(const Cache& a, const Cache& b) {
  cache_change out{a.name()->str(), false, {}, cache_text(a), cache_text(b)};
  if (a.kind() != b.kind())
    out.why = "another kind of cache";
  else if (a.layers() != b.layers())
    out.why = fmt::format("{} layers instead of {}", b.layers(), a.layers());
  else if (a.kv_heads() != b.kv_heads() || a.head_dim() != b.head_dim())
    out.why = "other key/value heads";
  else if (values(a.shape()) != values(b.shape()))
    out.why = "another shape";
  else if (a.dtype() != b.dtype())
    out.why = "another dtype";
  else if (!window_suffices(a, b))
    out.why = "a wider window needs positions that may be gone";
  else
    out.kept = true;
  return out;
}

void diff_caches(const Program& before, const Program& after, difference& out) {
  for (const auto* a : *before.caches()) {
    const Cache* b = find(after, text(a->name()));
    out.caches.push_back(
        b != nullptr
            ? compare(*a, *b)
            : cache_change{
                  a->name()->str(), false, "the second Program has none of this name", cache_text(*a), {}});
  }
  for (const auto* b : *after.caches())
    if (find(before, text(b->name())) == nullptr)
      out.caches.push_back(
          {b->name()->str(), false, "the first Program has none of this name", {}, cache_text(*b)});
}

}  // namespace

bool difference::equal() const {
  return facts.empty() && weights.empty() && ops.empty() && probes.empty() &&
         std::all_of(caches.begin(), caches.end(),
                     [](const auto& c) { return c.kept && c.before == c.after; });
}

bool difference::keeps_caches() const {
  return std::all_of(caches.begin(), caches.end(), [](const auto& c) { return c.kept; });
}

difference diff(const Program& before, const Program& after) {
  difference out;
  diff_facts(before, after, out);
  const auto weights = diff_weights(before, after, out);
  diff_caches(before, after, out);
  diff_ops(before, after, weights, out);
  return out;
}

}  // namespace troupe::program
