#include "cli/model_table.hpp"

#include <fmt/format.h>

#include <filesystem>

#include "cli/output.hpp"
#include "kernel/base/text.hpp"

namespace troupe::cli {

std::string models_text(const std::vector<client::model_info>& models) {
  if (models.empty()) return "the server has no models\n";
  std::vector<std::vector<std::string>> rows{{"NAME", "STATE", "GENERATION", "ARCHITECTURE", "MODULE",
                                              "PARAMETERS", "CONTEXT", "RUNNING", "WAITING", "GENERATED"}};
  for (const auto& m : models)
    rows.push_back({m.name, m.state, std::to_string(m.generation), m.architecture, m.module,
                    short_count(m.parameters), std::to_string(m.context_tokens), std::to_string(m.running),
                    std::to_string(m.waiting), std::to_string(m.generated_tokens)});
  return table(rows);
}

std::string status_table(const std::vector<client::model_info>& models) {
  if (models.empty()) return "the server has no models\n";
  std::vector<std::vector<std::string>> rows{
      {"NAME", "STATE", "GENERATION", "MODULE", "CHECKPOINT", "RUNNING", "WAITING", "TOKENS/S", "MEMORY"}};
  for (const auto& m : models) {
    std::string state = m.state;
    if (m.share_percent < 100) state += fmt::format(" {}%", m.share_percent);
    if (m.pinned) state += ", pinned";
    rows.push_back({m.name, state, std::to_string(m.generation),
                    fmt::format("{} {}", m.module, m.module_sha256.substr(0, 8)),
                    std::filesystem::path(m.checkpoint).filename().string(), std::to_string(m.running),
                    std::to_string(m.waiting), fmt::format("{:.0f}", m.tokens_per_second),
                    human_bytes(m.weight_bytes)});
  }
  return table(rows);
}

boost::json::array models_json(const std::vector<client::model_info>& models) {
  boost::json::array out;
  for (const auto& m : models)
    out.push_back(boost::json::object{{"name", m.name},
                                      {"state", m.state},
                                      {"generation", m.generation},
                                      {"checkpoint", m.checkpoint},
                                      {"architecture", m.architecture},
                                      {"module", m.module},
                                      {"module_sha256", m.module_sha256},
                                      {"parameters", m.parameters},
                                      {"context_tokens", m.context_tokens},
                                      {"vocabulary", m.vocabulary},
                                      {"running", m.running},
                                      {"waiting", m.waiting},
                                      {"generated_tokens", m.generated_tokens},
                                      {"steps", m.steps},
                                      {"tokens_per_second", m.tokens_per_second},
                                      {"weight_bytes", m.weight_bytes},
                                      {"share_percent", m.share_percent},
                                      {"pinned", m.pinned}});
  return out;
}

boost::json::object operation_json(const client::operation_info& o) {
  return {{"operation", o.operation},
          {"model", o.model},
          {"verb", o.verb},
          {"state", o.state},
          {"dry_run", o.dry_run},
          {"begun_ms", o.begun_ms},
          {"took_ms", o.took_ms},
          {"old_generation", o.old_generation},
          {"new_generation", o.new_generation},
          {"reason", o.reason}};
}

boost::json::array operations_json(const std::vector<client::operation_info>& operations) {
  boost::json::array out;
  for (const auto& o : operations) out.push_back(operation_json(o));
  return out;
}

}  // namespace troupe::cli
