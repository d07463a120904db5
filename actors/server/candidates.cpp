#include "actors/server/candidates.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "actors/server/probes.hpp"
#include "kernel/base/text.hpp"
#include "kernel/modules/signature.hpp"
#include "kernel/program/diff.hpp"
#include "sandbox/conformance/conformance.hpp"

namespace troupe {

namespace {

using deployment::candidate_request;
using deployment::staged;

// What clients, tokenizers and running streams have taken for granted.
bool same_front(const prepared_model& a, const prepared_model& b) {
  const auto template_of = [](const prepared_model& m) {
    const auto* text = m.program->facts()->chat_template();
    return text == nullptr ? std::string_view() : text->string_view();
  };
  return a.checkpoint.folder == b.checkpoint.folder && a.vocabulary == b.vocabulary &&
         a.context_tokens == b.context_tokens && a.eos_ids == b.eos_ids &&
         a.program->facts()->bos_id() == b.program->facts()->bos_id() && template_of(a) == template_of(b);
}

bool is_recurrent(const prepared_model& m) {
  return program::state_bytes_per_sequence(*m.program) > 0;
}

// A signature lies beside the operator's file; the copy that a restart finds needs one, too.
void keep_signature(const modules::module& m) {
  std::error_code ignored;
  const auto from = modules::signature_file(m.origin()), to = modules::signature_file(m.staged_path());
  if (from != to && std::filesystem::exists(from, ignored))
    std::filesystem::copy_file(from, to, std::filesystem::copy_options::overwrite_existing, ignored);
}

void report_difference(const program::difference& d, staged& found) {
  found.same_layout = d.keeps_caches();
  found.bytes_shared = d.shared.bytes + d.perhaps.bytes;
  const auto line = [&](std::string text) { found.report.push_back(std::move(text)); };
  if (d.equal()) return line("the Program is the same");
  line(fmt::format(
      "the Program differs: {} ops, {} facts; of its weights {} ({}) are shared, {} ({}) loaded, {} dropped",
      d.ops.size(), d.facts.size(), d.shared.weights + d.perhaps.weights, human_bytes(found.bytes_shared),
      d.loaded.weights, human_bytes(d.loaded.bytes), d.dropped.weights));
  for (const auto& c : d.caches)
    if (!c.kept) line(fmt::format("cache {}: {}", c.name, c.why));
}

result<void> judge_probes(const probe_outcome& seen, const deployment::change& how, staged& found) {
  found.same_results = seen.same_bits;
  std::string text = seen.same_bits
                         ? fmt::format("probe prompts: the same bits in {} rows of logits", seen.logit_rows)
                         : fmt::format("probe prompts: largest difference of a logit {:.3g} in {} rows",
                                       seen.largest_difference, seen.logit_rows);
  if (const auto& t = seen.first_other_token)
    text += fmt::format("; first other token: prompt {}, position {}: {} instead of {}", t->prompt,
                        t->position, t->after, t->before);
  found.report.push_back(text);
  if (how.verify == wire::Verify::exact && !seen.same_bits)
    return fail(
        error_code::conflict,
        "its results differ, and `exact` was asked for: {}: allow a difference (max_logit_diff, off) if it "
        "is meant",
        text);
  if (how.verify == wire::Verify::max_logit_diff && seen.largest_difference > how.max_logit_diff)
    return fail(error_code::conflict, "its results differ by more than {}: {}", how.max_logit_diff, text);
  return {};
}

}  // namespace

result<modules::module_ptr> staged_module(const modules::registry& known, const modules::store& store,
                                          const std::string& sha256) {
  for (const auto& m : known.all())
    if (m->sha256() == sha256) return m;
  auto loaded = store.load(store.folder() / (sha256 + ".so"));
  if (!loaded) return fail(loaded.error().code, "the module that was promoted: {}", loaded.error().text);
  return loaded;
}

result<modules::module_ptr> candidate_maker::find_module(const candidate_request& wanted) const {
  if (!wanted.how.module.empty()) return store_.load(wanted.how.module);
  if (!wanted.how.module_sha256.empty()) return staged_module(known_, store_, wanted.how.module_sha256);
  auto config = checkpoint::read_config(wanted.model.checkpoint);
  if (!config) return fail(std::move(config.error()));
  return known_.find(config->architecture);
}

// Words for the report. What one module has passed with one configuration it is not asked again.
result<std::string> candidate_maker::judge(const modules::module& module,
                                           const std::filesystem::path& checkpoint,
                                           const std::string& config) {
  const std::string key = module.sha256() + config + checkpoint.string();
  {
    const std::lock_guard lock(guard_);
    if (passed_.contains(key)) return std::string("conformance suite, quick part: passed before");
  }
  conformance::options o;
  o.module = module.staged_path();
  o.checkpoint = checkpoint;
  o.backend = reference_;
  o.quick = true;
  const auto report = conformance::run(o, store_);
  if (!report) return fail(report.error());
  std::size_t cases = 0;
  for (const auto& g : report->groups) {
    cases += g.cases();
    if (g.ok()) continue;
    const std::string what = !g.failures().empty()
                                 ? fmt::format("{}: {}", g.failures().front().name, g.failures().front().text)
                                 : g.blocked();
    return fail(error_code::bad_module, "conformance suite, {}: {} (`troupe module check` tells more)",
                g.name(), what);
  }
  const std::lock_guard lock(guard_);
  passed_.insert(key);
  return fmt::format("conformance suite, quick part: {} cases passed", cases);
}

result<staged> candidate_maker::make(const candidate_request& wanted) {
  auto module = find_module(wanted);
  if (!module) return fail(std::move(module.error()));
  modules::registry only;
  only.add(*module);
  auto model = prepare_model(wanted.model, only);
  if (!model) return fail(std::move(model.error()));
  const prepared_model &before = *wanted.running, &after = **model;
  if (before.vocabulary != after.vocabulary ||
      before.tokenizer->vocabulary_size() != after.tokenizer->vocabulary_size())
    return fail(
        error_code::bad_checkpoint,
        "model {}: its vocabulary has {} tokens ({} in the tokenizer) instead of {} ({}): running streams "
        "could not go on; unload the model and load this one",
        after.name, after.vocabulary, after.tokenizer->vocabulary_size(), before.vocabulary,
        before.tokenizer->vocabulary_size());
  staged found;
  found.report.push_back(fmt::format("module {} {} ({}) instead of {} {} ({})", after.module->name(),
                                     after.module->version(), after.module->sha256().substr(0, 12),
                                     before.module->name(), before.module->version(),
                                     before.module->sha256().substr(0, 12)));
  auto suite = judge(**module, after.checkpoint.folder, after.checkpoint.config_json);
  if (!suite) return fail(std::move(suite.error()));
  found.report.push_back(std::move(*suite));
  report_difference(program::diff(*before.program, *after.program), found);
  if (before.checkpoint.folder != after.checkpoint.folder) found.bytes_shared = 0;
  found.same_front = same_front(before, after);
  found.recurrent = is_recurrent(before) || is_recurrent(after);
  auto probes = run_probes(before, after, {device_->library(), int8_});
  if (!probes) return fail(probes.error().code, "model {}: {}", after.name, probes.error().text);
  if (auto ok = judge_probes(*probes, wanted.how, found); !ok)
    return fail(ok.error().code, "model {}: {}", after.name, ok.error().text);
  keep_signature(**module);
  found.model = std::move(*model);
  return found;
}

}  // namespace troupe
