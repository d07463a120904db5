// The module on trial, and what its groups of cases share.
#pragma once

#include <boost/json/value.hpp>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/checkpoint/checkpoint.hpp"
#include "sandbox/conformance/conformance.hpp"
#include "sandbox/conformance/in_a_child.hpp"

namespace troupe::conformance {

struct named_config {
  std::string name;  // the file's
  boost::json::value config;
};

class subject {
 public:
  subject(const options& o, modules::module_ptr module, std::vector<named_config> configs)
      : options_(o), module_(std::move(module)), configs_(std::move(configs)) {}

  const options& given() const { return options_; }
  const modules::module& module() const { return *module_; }
  const std::vector<named_config>& configs() const { return configs_; }
  void progressed(std::string_view group, std::size_t done, std::size_t total) const {
    alive_ ? alive_({}) : options_.progress(group, done, total);
  }

  // For what runs in a child of this process: tells that it goes on, and what begins now.
  void report_life_to(sign_of_life alive) { alive_ = std::move(alive); }
  void alive(std::string_view what = {}) const {
    if (alive_) alive_(what);
  }
  // A native op, or a step of a small model, that takes longer than one build may take does not end.
  child_limits limits() const { return {options_.limits.wall, options_.limits.cpu}; }

  // In the cell.
  tl::expected<program::verified_program, sandbox::verdict> build(const boost::json::value& config) const;

 private:
  const options& options_;
  modules::module_ptr module_;
  std::vector<named_config> configs_;
  sign_of_life alive_;
};

// A refusal in the module's own words is an answer like a Program; anything else is a fault.
bool is_refusal(const sandbox::verdict& v);
std::string fault_of(const sandbox::verdict& v);

// A small relative of a configuration, ready to run with random weights.
struct small_model {
  std::string name;
  program::verified_program program;  // with plain weights
  std::shared_ptr<const checkpoint::weights> weights;
};

// Runs a group in a child of this process: what it runs may crash or hang. That is a failed case then, and what the group has found
// so far is lost.
check::group apart(const subject& s, const std::string& name,
                   const std::function<check::group(const subject&)>& run);

check::group check_table(const subject& s);
check::group check_programs(const subject& s);
check::group check_mistakes(const subject& s);
check::group check_laws(const subject& s);
check::group check_weights(const subject& s);
check::group check_reference(const subject& s, const std::vector<small_model>& models);
check::group check_batches(const subject& s, const std::vector<small_model>& models);
check::group check_states(const subject& s, const std::vector<small_model>& models);
check::group check_guards(const subject& s, const std::vector<small_model>& models);

}  // namespace troupe::conformance
