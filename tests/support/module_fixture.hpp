// What the tests of one architecture's module share: the module loaded as the server does it, its demo's configuration to be
// changed, and what it builds of that.
#pragma once

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>

#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/modules/modules.hpp"
#include "kernel/program/program.hpp"
#include "tests/support/safetensors_writer.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe::test {

// `which`: a struct with a static constexpr const char* name, "mixtral".
template <class which>
class module_fixture : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    store_folder_ = std::make_unique<temp_folder>();
    auto m = modules::store::open(store_folder_->path())
                 ->load(std::string(TROUPE_BINARY_DIR "/lib/troupe/modules/") + which::name + ".so");
    ASSERT_TRUE(m) << m.error().text;
    module_ = *m;
  }
  static void TearDownTestSuite() {
    module_.reset();
    store_folder_.reset();
  }

  static std::string demo_folder() { return std::string(TROUPE_SOURCE_DIR "/demo/") + which::name + "-demo"; }
  static boost::json::object demo() {
    const auto config = checkpoint::read_config(demo_folder());
    return boost::json::parse(config->config_json).as_object();
  }
  static program::verified_program build(const boost::json::object& config) {
    auto p = module_->build(boost::json::serialize(config));
    if (!p) throw std::runtime_error(p.error().text);
    return *p;
  }
  static std::string build_error(const boost::json::object& config,
                                 error_code code = error_code::bad_checkpoint) {
    const auto p = module_->build(boost::json::serialize(config));
    if (p) return "no error";
    EXPECT_EQ(p.error().code, code) << p.error().text;
    return p.error().text;
  }

  static const program::Weight* weight(const program::verified_program& p, std::string_view name) {
    for (const auto* w : *p->weights())
      if (w->name()->string_view() == name) return w;
    throw std::runtime_error("no weight " + std::string(name));
  }
  static const program::Op* op(const program::verified_program& p, program::OpKind kind) {
    for (const auto* o : *p->ops())
      if (o->kind() == kind) return o;
    throw std::runtime_error("no such op");
  }
  static std::set<std::string> probes(const program::verified_program& p) {
    std::set<std::string> names;
    for (const auto* probe : *p->probes()) names.insert(probe->name()->str());
    return names;
  }

  // "router.model.layers.0.mlp.gate": the router outputs that the reference recorded of any prompt.
  static std::set<std::string> recorded_routers() {
    const temp_folder folder;  // a folder whose one file is the recorded states
    std::filesystem::create_symlink(
        std::string(TROUPE_SOURCE_DIR "/tests/golden/") + which::name + "/states.safetensors",
        folder.path() / "model.safetensors");
    const auto files = checkpoint::weights::open(folder.path());
    if (!files) throw std::runtime_error(files.error().text);
    std::set<std::string> names;
    for (const auto& [name, view] : (*files)->tensors()) {
      const auto probe = name.substr(name.find('.') + 1);
      if (probe.compare(0, 7, "router.") == 0) names.insert(probe);
    }
    return names;
  }

  static inline std::unique_ptr<temp_folder> store_folder_;
  static inline modules::module_ptr module_;
};

}  // namespace troupe::test
