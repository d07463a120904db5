#include "actors/server/live_models.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "kernel/base/available_memory.hpp"
#include "kernel/base/text.hpp"
#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/telemetry/log.hpp"

namespace troupe {

namespace {

constexpr std::uint64_t large_journal = std::uint64_t{1} << 20;

}  // namespace

result<std::unique_ptr<live_models>> live_models::open(const config::configuration& wanted) {
  std::unique_ptr<live_models> made(new live_models);
  std::vector<deployment::record> past;
  if (!wanted.server.state.empty()) {
    auto opened = deployment::journal::open(wanted.server.state);
    if (!opened) return fail(std::move(opened.error()));
    if (opened->cut_bytes > 0)
      log::warning("server", "a record was torn when the server ended; it had not been acknowledged",
                   {{"file", opened->file->file().string()}, {"bytes", opened->cut_bytes}});
    made->journal_ = std::move(opened->file);
    past = std::move(opened->records);
  }
  std::vector<deployment::base_entry> configured;
  for (const auto& m : wanted.models)
    configured.push_back(
        {config::name_of(m),
         {.checkpoint = m.path.string(), .max_context = m.max_context, .module_sha256 = {}}});
  const auto write = [journal = made->journal_.get()](const deployment::record& r) -> result<void> {
    if (journal == nullptr) return {};
    return journal->append(r);
  };
  made->book_ = std::make_shared<deployment::book>(configured, past, write, deployment::unix_ms());
  return made;
}

std::vector<config::model_section> live_models::intended(const config::configuration& wanted) const {
  auto served = book_->served();
  std::vector<config::model_section> models;
  const auto take = [&](const deployment::intended& m) {
    models.push_back({.name = m.model, .path = m.what.checkpoint, .max_context = m.what.max_context});
  };
  for (const auto& m : wanted.models) {
    const auto found = std::ranges::find(served, config::name_of(m), &deployment::intended::model);
    if (found == served.end()) continue;
    take(*found);
    served.erase(found);
  }
  for (const auto& m : served) take(m);
  return models;
}

void live_models::compact() {
  if (!journal_ || journal_->bytes() < large_journal) return;
  if (auto done = journal_->rewrite(book_->digest()); !done)
    log::warning("server", "the journal was not compacted", {{"reason", done.error().text}});
}

result<deployment::staged> stage_model(const model_request& wanted) {
  auto config = checkpoint::read_config(wanted.checkpoint);
  if (!config) return fail(std::move(config.error()));
  auto weights = checkpoint::weights::open(wanted.checkpoint);
  if (!weights) return fail(std::move(weights.error()));
  const std::uint64_t bytes = (*weights)->total_bytes();
  const auto room = available_memory();
  if (room && bytes > *room)
    return fail(error_code::no_room,
                "{}: {} of weights, but only {} of memory are available: unload another model first",
                wanted.checkpoint.string(), human_bytes(bytes), human_bytes(*room));
  deployment::staged found;
  found.bytes = bytes;
  found.report.push_back(fmt::format(
      "{}: {}, {} of weights{}", wanted.checkpoint.string(), config->architecture, human_bytes(bytes),
      room ? fmt::format("; {} of memory available", human_bytes(*room)) : ""));
  return found;
}

result<deployment::staged> stage_program(const model_request& wanted, const modules::registry& known) {
  auto model = prepare_model(wanted, known);
  if (!model) return fail(std::move(model.error()));
  const prepared_model& m = **model;
  deployment::staged found;
  found.report.push_back(
      fmt::format("module {} {} ({}) built the Program: {} parameters, context of {} tokens, {} of keys "
                  "and values per token",
                  m.module->name(), m.module->version(), m.module->sha256().substr(0, 12), m.parameters,
                  m.context_tokens, human_bytes(program::kv_bytes_per_token(*m.program, sizeof(float)))));
  found.model = std::move(*model);
  return found;
}

}  // namespace troupe
