#include <gmock/gmock.h>

#include "kernel/modules/modules.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe::modules {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class Registry : public testing::Test {
 protected:
  module_ptr load(const std::string& name) {
    auto m = store_.load(std::string(TEST_MODULES "/") + name + ".so");
    if (!m) throw std::runtime_error(m.error().text);
    return *m;
  }
  test::temp_folder folder_;
  store store_ = *store::open(folder_.path() / "store");
  registry registry_;
};

TEST_F(Registry, FindsAModuleByArchitecture) {
  registry_.add(load("good"));
  registry_.add(load("minimal_c"));
  const auto found = registry_.find("TableForCausalLM");
  ASSERT_TRUE(found) << found.error().text;
  EXPECT_EQ((*found)->name(), "table");
  EXPECT_EQ(registry_.all().size(), 2u);
}

TEST_F(Registry, PrefersTheModuleThatCameLater) {
  registry_.add(load("good"));
  const auto later = load("unsupported");
  registry_.add(later);
  EXPECT_EQ(*registry_.find("TableForCausalLM"), later);
}

TEST_F(Registry, ListsTheArchitecturesThatAreLoaded) {
  EXPECT_EQ(registry_.find("X").error().text, "no loaded module serves the architecture X; loaded: none");
  registry_.add(load("minimal_c"));
  registry_.add(load("good"));
  const auto missing = registry_.find("LlamaForCausalLM").error();
  EXPECT_EQ(missing.code, error_code::unknown_architecture);
  EXPECT_EQ(missing.text,
            "no loaded module serves the architecture LlamaForCausalLM; loaded: MinimalForCausalLM, "
            "TableForCausalLM");
}

TEST_F(Registry, LoadsAFolderAndReportsWhatFails) {
  const fs::path folder = folder_.path() / "modules";
  fs::create_directory(folder);
  fs::copy_file(TEST_MODULES "/good.so", folder / "good.so");
  fs::copy_file(TEST_MODULES "/wrong_major.so", folder / "old.so");
  folder_.write("modules/README.md", "not a module");
  const auto errors = registry_.add_folder(store_, folder);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_THAT(errors[0].text, HasSubstr("old.so: built for module interface 99."));
  EXPECT_EQ(registry_.all().size(), 1u);
}

TEST_F(Registry, ReportsAFolderThatCannotBeRead) {
  const auto errors = registry_.add_folder(store_, folder_.path() / "none");
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0].code, error_code::not_found);
}

}  // namespace
}  // namespace troupe::modules
