#include "cli/model_table.hpp"

#include <boost/json/object.hpp>

#include "cli/output.hpp"

namespace troupe::cli {

std::string models_text(const std::vector<client::model_info>& models) {
  if (models.empty()) return "the server has no models\n";
  std::vector<std::vector<std::string>> rows{{"NAME", "STATE", "ARCHITECTURE", "MODULE", "PARAMETERS",
                                              "CONTEXT", "RUNNING", "WAITING", "GENERATED"}};
  for (const auto& m : models)
    rows.push_back({m.name, m.state, m.architecture, m.module, short_count(m.parameters),
                    std::to_string(m.context_tokens), std::to_string(m.running), std::to_string(m.waiting),
                    std::to_string(m.generated_tokens)});
  return table(rows);
}

boost::json::array models_json(const std::vector<client::model_info>& models) {
  boost::json::array out;
  for (const auto& m : models)
    out.push_back(boost::json::object{{"name", m.name},
                                      {"state", m.state},
                                      {"architecture", m.architecture},
                                      {"module", m.module},
                                      {"module_sha256", m.module_sha256},
                                      {"parameters", m.parameters},
                                      {"context_tokens", m.context_tokens},
                                      {"vocabulary", m.vocabulary},
                                      {"running", m.running},
                                      {"waiting", m.waiting},
                                      {"generated_tokens", m.generated_tokens},
                                      {"steps", m.steps}});
  return out;
}

}  // namespace troupe::cli
