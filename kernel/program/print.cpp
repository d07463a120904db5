#include "kernel/program/print.hpp"

#include <map>

#include "kernel/base/text.hpp"
#include "kernel/program/names.hpp"
#include "kernel/program/outline.hpp"

namespace troupe::program {

namespace {

// 46702792704 -> "46.70 B"
std::string human_count(std::uint64_t count) {
  const auto value = static_cast<double>(count);
  if (count >= 1'000'000'000) return fmt::format("{:.2f} B", value / 1e9);
  if (count >= 1'000'000) return fmt::format("{:.2f} M", value / 1e6);
  return fmt::format("{}", count);
}

std::string facts_text(const Program& program) {
  const Facts& facts = *program.facts();
  const auto counts = count_parameters(program);
  auto out = fmt::format("{}  (program {}.{})\n", text(facts.architecture()), program.version_major(),
                         program.version_minor());
  out += fmt::format("  vocabulary {}, hidden {}, layers {}, context {} tokens\n", facts.vocabulary(),
                     facts.hidden(), facts.layers(), facts.context_tokens());
  out += fmt::format(
      "  beginning of sequence {}, end of sequence {}\n",
      facts.bos_id() < 0 ? "none" : fmt::format("{}", facts.bos_id()),
      size(facts.eos_ids()) == 0 ? "none" : fmt::format("{}", fmt::join(values(facts.eos_ids()), ", ")));
  out += fmt::format("  parameters {} in all, {} active per token\n", human_count(counts.total),
                     human_count(counts.active));
  out += fmt::format("  weights {} as bf16\n", human_bytes(2 * counts.total));
  out +=
      fmt::format("  cache per token {} as f32 (CPU), {} as bf16\n",
                  human_bytes(kv_bytes_per_token(program, 4)), human_bytes(kv_bytes_per_token(program, 2)));
  if (const auto bytes = state_bytes_per_sequence(program); bytes > 0)
    out += fmt::format("  state per sequence {}\n", human_bytes(bytes));
  if (size(facts.chat_template()) > 0)
    out += fmt::format("  chat template of {} bytes, for checkpoints that bring none\n",
                       size(facts.chat_template()));
  return out;
}

std::string caches_text(const Program& program) {
  auto out = fmt::format("\ncaches ({})\n", program.caches()->size());
  for (const auto* cache : *program.caches())
    out += fmt::format("  {}  {}\n", text(cache->name()), cache_text(*cache));
  return out;
}

struct weight_row {
  std::string name, shape;
  std::string kind;  // role and what else is said about it
  std::string
      stored;  // where it stands in checkpoints, a line for each way; empty = whole, under its own name
  std::uint32_t times = 0;
};

weight_row row_of(const Weight& weight, bool fold_layers) {
  weight_row row;
  row.name = fold_layers ? without_layer(text(weight.name())) : weight.name()->str();
  row.shape = shape_text(values(weight.shape()));
  row.kind = name_of(weight.role());
  if (weight.quantizable()) row.kind += ", quantizable";
  if (weight.partition() != Partition::replicate) row.kind += ", split by " + name_of(weight.partition());
  for (const auto* spelling : *weight.spellings())
    row.stored +=
        fmt::format("      {} {}\n", row.stored.empty() ? "=" : "or", spelling_text(*spelling, fold_layers));
  if (row.stored == fmt::format("      = {}\n", row.name)) row.stored.clear();
  return row;
}

std::vector<weight_row> weight_rows(const Program& program, bool fold_layers) {
  std::vector<weight_row> rows;
  std::map<std::string, std::size_t> known;
  for (const auto* weight : *program.weights()) {
    auto row = row_of(*weight, fold_layers);
    auto key = fmt::format("{} {} {} {}", row.name, row.shape, row.kind, row.stored);
    const auto [found, is_new] = known.emplace(key, rows.size());
    if (is_new) rows.push_back(std::move(row));
    ++rows[found->second].times;
  }
  return rows;
}

std::string weights_text(const Program& program, bool fold_layers) {
  const auto rows = weight_rows(program, fold_layers);
  std::size_t name_width = 0, shape_width = 0;
  for (const auto& row : rows) {
    name_width = std::max(name_width, row.name.size());
    shape_width = std::max(shape_width, row.shape.size());
  }
  auto out = fmt::format("\nweights ({})\n", program.weights()->size());
  for (const auto& row : rows)
    out += fmt::format("  {:<{}}  {:<{}}  {}{}\n{}", row.name, name_width, row.shape, shape_width, row.kind,
                       row.times == 1 ? "" : fmt::format("  x {}", row.times), row.stored);
  return out;
}

std::string shapes(const Program& program, const flatbuffers::Vector<std::uint32_t>* ids) {
  std::string out;
  for (const auto id : values(ids))
    out += (out.empty() ? "" : ", ") + shape_text(*program.tensors()->Get(id));
  return out.empty() ? "()" : out;
}

std::string tensors(const flatbuffers::Vector<std::uint32_t>* ids) {
  std::string out;
  for (const auto id : values(ids)) out += fmt::format("{}t{}", out.empty() ? "" : ", ", id);
  return out;
}

// "    12  attention    t12 = (t10, t11, t9)   [T, 256], [T, 64], [T, 64] -> [T, 256]   heads 8, ..."
std::string op_text(const Program& program, std::uint32_t index, const std::string& scope) {
  const Op& op = *program.ops()->Get(index);
  std::string details;
  for (const auto id : values(op.weights())) {
    auto name = text(program.weights()->Get(id)->name());
    if (!scope.empty() && name.substr(0, scope.size() + 1) == scope + ".")
      name.remove_prefix(scope.size() + 1);
    details += fmt::format("{}{}", details.empty() ? "" : ", ", name);
  }
  const auto attrs = attributes(program, op);
  if (!attrs.empty()) details += fmt::format("{}{}", details.empty() ? "" : "; ", attrs);
  auto line = fmt::format(
      "{:>6}  {:<11}  {:<22}  {:<36}  {}", index, name_of(op.kind()),
      fmt::format("{} = ({})", tensors(op.outputs()), tensors(op.inputs())),
      fmt::format("{} -> {}", shapes(program, op.inputs()), shapes(program, op.outputs())), details);
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

std::string ops_text(const Program& program, bool fold_layers) {
  auto out = fmt::format("\nops ({}; T tokens of the step, R rows whose logits are asked for)\n",
                         program.ops()->size());
  for (const auto& run : outline(program, fold_layers)) {
    if (!run.scope.empty())
      out += fmt::format("  {}{}\n", run.scope,
                         run.alike == 1 ? "" : fmt::format("  (to {}: {} alike)", run.last_scope, run.alike));
    for (std::uint32_t i = run.first; i < run.first + run.count; ++i) out += op_text(program, i, run.scope);
  }
  return out + fmt::format("  logits t{}\n", program.logits());
}

}  // namespace

std::string print(const Program& program, const print_options& options) {
  auto out = facts_text(program) + caches_text(program);
  if (options.weights) out += weights_text(program, options.fold_layers);
  out += ops_text(program, options.fold_layers);
  const auto probes = size(program.probes());
  if (probes > 0)
    out += fmt::format("\nprobes ({}): {} to {}\n", probes, text(program.probes()->Get(0)->name()),
                       text(program.probes()->Get(probes - 1)->name()));
  return out;
}

}  // namespace troupe::program
