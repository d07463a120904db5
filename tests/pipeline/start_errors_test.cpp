// Whatever keeps a server from starting is one clear error that names the file, key or field; nothing is left running.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/support/demo_server.hpp"

namespace troupe::test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

std::string read_file(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class StartErrors : public testing::Test {
 protected:
  StartErrors() { (void)log::configure({.least = log::level::off}); }

  // A checkpoint whose files are those of the demo model, to be spoiled one by one.
  fs::path checkpoint() {
    const fs::path copy = scratch_.path() / "spoiled";
    fs::create_directories(copy);
    for (const auto& file : fs::directory_iterator(demo_model))
      fs::create_symlink(file.path(), copy / file.path().filename());
    options_.config.models = {{.path = copy}};
    return copy;
  }
  static void replace(const fs::path& file, const std::string& content) {
    fs::remove(file);
    std::ofstream(file, std::ios::binary) << content;
  }
  static void edit(const fs::path& file, const std::string& from, const std::string& to) {
    std::string text = read_file(file);
    const auto at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    replace(file, text);
  }

  error start() {
    auto outcome = server::start(options_);
    if (outcome) return {};
    EXPECT_EQ(outcome.error().text.find('\n'), std::string::npos) << outcome.error().text;
    return outcome.error();
  }

  temp_folder scratch_;
  server_options options_ = demo_options(scratch_);
};

#define EXPECT_ERROR(outcome, expected_code, matcher)             \
  do {                                                            \
    const error seen = (outcome);                                 \
    EXPECT_EQ(seen.code, error_code::expected_code) << seen.text; \
    EXPECT_THAT(seen.text, matcher);                              \
  } while (false)

TEST_F(StartErrors, PortInUse) {
  demo_server other;
  options_.config.server.listen = other->endpoints();
  EXPECT_ERROR(start(), address_in_use, HasSubstr(other->endpoints().front()));
  auto stream = other.connect().generate(chat_request("Hello!"));
  EXPECT_EQ(read_all(stream), "Hello! How can I help you today?");
}

TEST_F(StartErrors, NoSuchHost) {
  options_.config.server.listen = {"tcp://no-such-host.invalid:7410"};
  EXPECT_ERROR(start(), bad_config, HasSubstr("no-such-host.invalid"));
}

TEST_F(StartErrors, NoEndpoint) {
  options_.config.server.listen = {"localhost"};
  EXPECT_ERROR(start(), bad_config, HasSubstr("localhost"));
}

TEST_F(StartErrors, NoSuchFolder) {
  options_.config.models = {{.path = "/nonexistent/model"}};
  EXPECT_ERROR(start(), not_found, HasSubstr("/nonexistent/model"));
}

TEST_F(StartErrors, UnknownArchitecture) {
  edit(checkpoint() / "config.json", "MixtralForCausalLM", "NovelForCausalLM");
  EXPECT_ERROR(start(), unknown_architecture,
               AllOf(HasSubstr("spoiled"), HasSubstr("NovelForCausalLM"), HasSubstr("MixtralForCausalLM")));
}

TEST_F(StartErrors, BrokenConfigJson) {
  replace(checkpoint() / "config.json", "{\"architectures\": [");
  EXPECT_ERROR(start(), bad_checkpoint, HasSubstr("config.json"));
}

TEST_F(StartErrors, ConfigJsonWithoutAKey) {
  edit(checkpoint() / "config.json", "\"hidden_size\": 256,", "");
  EXPECT_ERROR(start(), bad_checkpoint, HasSubstr("hidden_size"));
}

TEST_F(StartErrors, BrokenTokenizerJson) {
  replace(checkpoint() / "tokenizer.json", "{\"model\": ");
  EXPECT_ERROR(start(), bad_checkpoint, HasSubstr("tokenizer.json"));
}

TEST_F(StartErrors, MissingTokenizer) {
  fs::remove(checkpoint() / "tokenizer.json");
  EXPECT_ERROR(start(), not_found, HasSubstr("tokenizer.json"));
}

TEST_F(StartErrors, MissingWeights) {
  fs::remove(checkpoint() / "model.safetensors");
  EXPECT_ERROR(start(), not_found, AllOf(HasSubstr("spoiled"), HasSubstr("safetensors")));
}

TEST_F(StartErrors, TruncatedWeights) {
  const fs::path copy = checkpoint();
  const std::string whole = read_file(copy / "model.safetensors");
  replace(copy / "model.safetensors", whole.substr(0, whole.size() / 2));
  EXPECT_ERROR(start(), bad_checkpoint, HasSubstr("model.safetensors"));
}

TEST_F(StartErrors, WeightsThatDoNotFit) {
  edit(checkpoint() / "config.json", "\"intermediate_size\": 128", "\"intermediate_size\": 64");
  EXPECT_ERROR(start(), bad_checkpoint, AllOf(HasSubstr("128"), HasSubstr("64")));
}

TEST_F(StartErrors, WeightsThatAreNotThere) {
  edit(checkpoint() / "config.json", "\"num_hidden_layers\": 6", "\"num_hidden_layers\": 7");
  EXPECT_ERROR(start(), bad_checkpoint, HasSubstr("layers.6"));
}

TEST_F(StartErrors, CacheBlockTooSmallForAToken) {
  options_.config.cache.block = config::byte_count{1024};
  EXPECT_ERROR(start(), bad_config, HasSubstr("cache.block must be at least"));
}

TEST_F(StartErrors, NoSuchBackend) {
  options_.config.device.backend = "abacus";
  EXPECT_ERROR(start(), not_found, HasSubstr("libtroupe-abacus.so"));
}

TEST_F(StartErrors, NoSuchModuleFolder) {
  options_.config.modules.folders = {"/nonexistent/modules"};
  EXPECT_ERROR(start(), not_found, HasSubstr("/nonexistent/modules"));
}

TEST_F(StartErrors, TwoModelsOfOneName) {
  options_.config.models = {{.path = demo_model}, {.path = demo_model}};
  EXPECT_ERROR(start(), bad_config, HasSubstr("mixtral-demo"));
}

TEST_F(StartErrors, NeededModuleThatCannotBeLoaded) {
  temp_folder folder;
  folder.write("mixtral.so", "this is no library");
  options_.config.modules.folders = {folder.path()};
  EXPECT_ERROR(start(), unknown_architecture,
               AllOf(HasSubstr("MixtralForCausalLM"), HasSubstr("mixtral.so")));
}

TEST_F(StartErrors, LeaveModulesAloneThatNobodyNeeds) {
  temp_folder folder;
  folder.write("broken.so", "this is no library");
  options_.config.modules.folders = {options_.paths.modules, folder.path()};
  auto outcome = server::start(options_);
  ASSERT_TRUE(outcome) << outcome.error().text;
  ASSERT_EQ((*outcome)->skipped_modules().size(), 1u);
  EXPECT_THAT((*outcome)->skipped_modules()[0].text, HasSubstr("broken.so"));
}

}  // namespace
}  // namespace troupe::test
