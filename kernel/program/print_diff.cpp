// A difference for people and for scripts.
#include <boost/json.hpp>
#include <map>

#include "kernel/base/text.hpp"
#include "kernel/program/diff.hpp"
#include "kernel/program/names.hpp"
#include "kernel/program/outline.hpp"

namespace troupe::program {

namespace {

namespace json = boost::json;

std::string or_none(const std::string& text) {
  return text.empty() ? "none" : text;
}

std::string facts_text(const difference& d) {
  if (d.facts.empty()) return {};
  std::size_t width = 0;
  for (const auto& c : d.facts) width = std::max(width, c.field.size());
  std::string out = "facts\n";
  for (const auto& c : d.facts)
    out += fmt::format("  {:<{}}  {} -> {}\n", c.field, width, or_none(c.before), or_none(c.after));
  return out + "\n";
}

// ---- weights ------------------------------------------------------------------------------------------

// Replaces every "model.layers.3" by "model.layers.*".
std::string without(std::string text, std::string_view layer) {
  if (layer.empty()) return text;
  const auto folded = without_layer(layer);
  for (auto at = text.find(layer); at != text.npos; at = text.find(layer, at + folded.size()))
    text.replace(at, layer.size(), folded);
  return text;
}

std::string weight_text(const weight_change& w, bool fold_layers) {
  const std::string layer(fold_layers ? layer_scope(w.name) : std::string_view());
  const auto name = without(w.name, layer), before = without(w.before, layer),
             after = without(w.after, layer);
  if (w.before.empty()) return fmt::format("+ {}  {}", name, after);
  if (w.after.empty()) return fmt::format("- {}  {}", name, before);
  if (w.what == "renamed") return fmt::format("~ {}  renamed: {}", name, before);
  return fmt::format("~ {}  {}: {} -> {}", name, w.what, before, after);
}

// Each line once, in the order of its first coming, with how often it came.
std::string folded(const std::vector<std::string>& lines) {
  std::vector<std::pair<std::string, std::uint32_t>> all;
  std::map<std::string, std::size_t> known;
  for (const auto& line : lines) {
    const auto [found, is_new] = known.emplace(line, all.size());
    if (is_new) all.emplace_back(line, 0);
    ++all[found->second].second;
  }
  std::string out;
  for (const auto& [line, times] : all)
    out += fmt::format("  {}{}\n", line, times == 1 ? "" : fmt::format("  x {}", times));
  return out;
}

std::string weights_text(const difference& d, bool fold_layers) {
  if (d.weights.empty()) return {};
  std::vector<std::string> lines;
  for (const auto& w : d.weights) lines.push_back(weight_text(w, fold_layers));
  return fmt::format("weights ({} differ)\n{}\n", lines.size(), folded(lines));
}

std::string probes_text(const difference& d, bool fold_layers) {
  if (d.probes.empty()) return {};
  std::vector<std::string> lines;
  for (const auto& p : d.probes)
    lines.push_back(fmt::format("{}  {} -> {}", fold_layers ? without_layer(p.field) : p.field,
                                or_none(p.before), or_none(p.after)));
  return fmt::format("probes ({} differ)\n{}\n", lines.size(), folded(lines));
}

// ---- ops -----------------------------------------------------------------------------------------------

std::string op_text(const op_change& op) {
  if (op.before.empty()) return fmt::format("    + {}\n", op.after);
  if (op.after.empty()) return fmt::format("    - {}\n", op.before);
  return fmt::format("    ~ {}\n   -> {}\n", op.before, op.after);
}

struct layer_text {
  std::string first, last, lines;
  std::uint32_t alike = 1;
};

std::string ops_text(const difference& d, bool fold_layers) {
  if (d.ops.empty()) return {};
  std::vector<layer_text> layers;
  for (const auto& op : d.ops) {
    if (layers.empty() || layers.back().first != op.scope) layers.push_back({op.scope, op.scope, {}});
    layers.back().lines += op_text(op);
  }
  std::vector<layer_text> folded;
  for (auto& layer : layers) {
    if (fold_layers && !folded.empty() && !layer.first.empty() && folded.back().lines == layer.lines) {
      folded.back().last = layer.first;
      ++folded.back().alike;
    } else {
      folded.push_back(std::move(layer));
    }
  }
  auto out = fmt::format("ops ({} differ)\n", d.ops.size());
  for (const auto& layer : folded)
    out += fmt::format("  {}{}\n{}", layer.first.empty() ? "outside of layers" : layer.first,
                       layer.alike == 1 ? "" : fmt::format("  (to {}: {} alike)", layer.last, layer.alike),
                       layer.lines);
  return out + "\n";
}

// ---- caches, and what a swap keeps ---------------------------------------------------------------------

std::string caches_text(const difference& d) {
  std::string out;
  for (const auto& c : d.caches) {
    if (c.kept && c.before == c.after) continue;
    out += fmt::format("  {}  {} -> {}{}\n", c.name, or_none(c.before), or_none(c.after),
                       c.why.empty() ? "" : fmt::format("  ({})", c.why));
  }
  return out.empty() ? out : "caches\n" + out + "\n";
}

std::string share_text(const char* what, const difference::share& share) {
  if (share.weights == 0) return {};
  return fmt::format(", {} {} ({})", share.weights, what, human_bytes(share.bytes));
}

std::string swap_text(const difference& d) {
  auto weights = share_text("shared", d.shared) + share_text("shared if stored as both declare", d.perhaps) +
                 share_text("loaded", d.loaded) + share_text("dropped", d.dropped);
  auto out = fmt::format("a swap on one checkpoint\n  weights  {}; bytes as bf16\n",
                         weights.empty() ? "none" : weights.substr(2));
  if (d.caches.empty()) return out + "  caches   none in either\n";
  if (d.keeps_caches())
    return out + fmt::format(
                     "  caches   all kept: running sequences go on{}\n",
                     d.ops.empty() ? "" : "; what they have cached was computed by the first Program's ops");
  for (const auto& c : d.caches)
    out += fmt::format("  cache    {} {}\n", c.name, c.kept ? "kept" : "not kept: " + c.why);
  return out + "  running sequences are computed again from their tokens\n";
}

// ---- JSON ----------------------------------------------------------------------------------------------

const char* name_of(weight_fate fate) {
  switch (fate) {
    case weight_fate::shared:
      return "shared";
    case weight_fate::perhaps:
      return "perhaps";
    case weight_fate::loaded:
      return "loaded";
    case weight_fate::dropped:
      break;
  }
  return "dropped";
}

json::value or_null(const std::string& text) {
  return text.empty() ? json::value() : json::value(text);
}

json::array changes_json(const std::vector<fact_change>& changes, const char* key) {
  json::array out;
  for (const auto& c : changes)
    out.emplace_back(
        json::object{{key, c.field}, {"before", or_null(c.before)}, {"after", or_null(c.after)}});
  return out;
}

json::object share_json(const difference::share& share) {
  return {{"weights", share.weights}, {"bytes_bf16", share.bytes}};
}

}  // namespace

std::string print(const difference& d, bool fold_layers) {
  if (d.equal()) return "no difference\n";
  return facts_text(d) + weights_text(d, fold_layers) + caches_text(d) + ops_text(d, fold_layers) +
         probes_text(d, fold_layers) + swap_text(d);
}

std::string print_json(const difference& d) {
  json::array weights, caches, ops;
  for (const auto& w : d.weights)
    weights.emplace_back(json::object{{"name", w.name},
                                      {"what", w.what},
                                      {"fate", name_of(w.fate)},
                                      {"before", or_null(w.before)},
                                      {"after", or_null(w.after)}});
  for (const auto& c : d.caches)
    caches.emplace_back(json::object{{"name", c.name},
                                     {"kept", c.kept},
                                     {"why", or_null(c.why)},
                                     {"before", or_null(c.before)},
                                     {"after", or_null(c.after)}});
  for (const auto& op : d.ops)
    ops.emplace_back(
        json::object{{"scope", op.scope}, {"before", or_null(op.before)}, {"after", or_null(op.after)}});
  return json::serialize(json::object{{"equal", d.equal()},
                                      {"facts", changes_json(d.facts, "fact")},
                                      {"weights", std::move(weights)},
                                      {"caches", std::move(caches)},
                                      {"ops", std::move(ops)},
                                      {"probes", changes_json(d.probes, "name")},
                                      {"swap", json::object{{"shared", share_json(d.shared)},
                                                            {"perhaps", share_json(d.perhaps)},
                                                            {"loaded", share_json(d.loaded)},
                                                            {"dropped", share_json(d.dropped)},
                                                            {"keeps_caches", d.keeps_caches()}}}});
}

}  // namespace troupe::program
