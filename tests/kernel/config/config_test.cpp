#include "kernel/config/config.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace {

using namespace troupe;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

result<config::configuration> parse(std::string_view text) {
  return config::parse(text, "t.toml", "/base");
}

// The one line that a user sees.
std::string problem(std::string_view text) {
  const auto outcome = parse(text);
  if (outcome) return "no error";
  EXPECT_TRUE(outcome.error().code == error_code::bad_config);
  return outcome.error().text;
}

TEST(Config, IsTheDefaultsWhenTheFileIsEmpty) {
  const auto outcome = parse("");
  ASSERT_TRUE(outcome);
  EXPECT_EQ(*outcome, config::configuration{});
}

TEST(Config, ReadsEveryKindOfValue) {
  const auto outcome = parse(R"(
[server]
listen = ["tcp://0.0.0.0:1", "ipc:///run/troupe"]
drain = "5min"
[log]
level = "debug"
file = "logs/a.log"
colour = false
[cache]
memory = "1GiB"
block = "4096B"
[scheduler]
step_tokens = 2048
[modules]
folders = ["more", "/abs"]
[[model]]
name = "a"
path = "../models/a"
[[model]]
path = "/b"
max_context = 100
)");
  ASSERT_TRUE(outcome) << outcome.error().text;
  EXPECT_EQ(outcome->server.listen, (std::vector<std::string>{"tcp://0.0.0.0:1", "ipc:///run/troupe"}));
  EXPECT_EQ(outcome->server.drain, 5min);
  EXPECT_EQ(outcome->log.file, "/base/logs/a.log");
  EXPECT_FALSE(outcome->log.colour);
  EXPECT_EQ(outcome->cache.block, config::byte_count{4096});
  EXPECT_EQ(outcome->scheduler.step_tokens, 2048u);
  EXPECT_EQ(outcome->modules.folders, (std::vector<fs::path>{"/base/more", "/abs"}));
  ASSERT_EQ(outcome->models.size(), 2u);
  EXPECT_EQ(outcome->models[0].path, "/models/a");
  EXPECT_EQ(outcome->models[1].max_context, 100u);
}

struct refusal {
  const char* name;
  const char* text;
  const char* expected;
};
void PrintTo(const refusal& x, std::ostream* out) {
  *out << x.name;
}

class Refusals : public testing::TestWithParam<refusal> {};

TEST_P(Refusals, NameFileLineKeyAndWhatWasExpected) {
  EXPECT_EQ(problem(GetParam().text), GetParam().expected);
}

INSTANTIATE_TEST_SUITE_P(
    Config, Refusals,
    testing::Values(
        refusal{"key", "[cache]\n\nmemroy = \"1GiB\"",
                "t.toml:3: unknown key \"memroy\" in [cache]; did you mean \"memory\"?"},
        refusal{"far_key", "[cache]\nxyzzyxyzzy = 1", "t.toml:2: unknown key \"xyzzyxyzzy\" in [cache]"},
        refusal{"other_section", "[server]\nworkers = 2",
                "t.toml:2: unknown key \"workers\" in [server]; it belongs to [tokenizer]"},
        refusal{"section", "[sever]\n", "t.toml:1: unknown section \"sever\"; did you mean \"server\"?"},
        refusal{"bare_key", "drain = \"1s\"\n", "t.toml:1: unknown key \"drain\"; it belongs to [server]"},
        refusal{"section_as_key", "cache = 3", "t.toml:1: \"cache\" is a section: [cache]"},
        refusal{"wrong_type", "[scheduler]\nmax_sequences = \"many\"",
                "t.toml:2: scheduler.max_sequences is \"many\"; expected a whole number from 1 to 4096"},
        refusal{"fraction", "[scheduler]\nmax_sequences = 1.5",
                "t.toml:2: scheduler.max_sequences is 1.5; expected a whole number from 1 to 4096"},
        refusal{"range", "[scheduler]\nmax_sequences = 0",
                "t.toml:2: scheduler.max_sequences is 0; expected a whole number from 1 to 4096"},
        refusal{"unit", "[cache]\nmemory = \"256MB\"",
                "t.toml:2: cache.memory is \"256MB\"; expected a size such as \"64KiB\", 1MiB to 64TiB"},
        refusal{"no_unit", "[cache]\nmemory = 256",
                "t.toml:2: cache.memory is 256; expected a size such as \"64KiB\", 1MiB to 64TiB"},
        refusal{"duration", "[server]\ndrain = \"soon\"",
                "t.toml:2: server.drain is \"soon\"; expected a duration such as \"30s\", 0s to 24h"},
        refusal{"long_duration", "[server]\ndrain = \"25h\"",
                "t.toml:2: server.drain is \"25h\"; expected a duration such as \"30s\", 0s to 24h"},
        refusal{"choice", "[log]\nformat = \"xml\"",
                "t.toml:2: log.format is \"xml\"; expected one of text, json"},
        refusal{"list", "[modules]\nfolders = \"one\"",
                "t.toml:2: modules.folders is \"one\"; expected a list of paths in quotes"},
        refusal{
            "nothing_to_listen", "[server]\nlisten = []",
            "t.toml:2: server.listen is []; expected a list of endpoints such as [\"tcp://127.0.0.1:7410\"]: "
            "tcp://address:port (port 0 or * = any free one) or ipc://path"},
        refusal{"endpoint", "[server]\nlisten = [\"tcp://127.0.0.1:1\", \"127.0.0.1:7410\"]",
                "t.toml:2: server.listen is [ 'tcp://127.0.0.1:1', '127.0.0.1:7410' ]; expected a list of "
                "endpoints such as "
                "[\"tcp://127.0.0.1:7410\"]: tcp://address:port (port 0 or * = any free one) or ipc://path"},
        refusal{"backend", "[device]\nbackend = \"../cpu\"",
                "t.toml:2: device.backend is \"../cpu\"; expected a name without blanks and slashes"},
        refusal{"block_size", "[cache]\nblock = \"automatic\"",
                "t.toml:2: cache.block is \"automatic\"; expected \"auto\" or a size such as \"64KiB\", 1KiB "
                "to 1GiB"},
        refusal{"single_brackets", "[model]\npath = \"a\"",
                "t.toml:1: \"model\" stands in double brackets, once per model: [[model]]"},
        refusal{"no_path", "\n[[model]]\nname = \"a\"",
                "t.toml:2: this [[model]] has no \"path\" (the folder of its checkpoint)"},
        refusal{"model_key", "[[model]]\npth = \"a\"",
                "t.toml:2: unknown key \"pth\" in [model]; did you mean \"path\"?"},
        refusal{"same_name", "[[model]]\npath = \"x/a\"\n[[model]]\nname = \"a\"\npath = \"y\"",
                "t.toml: two models are called \"a\"; give one another name"},
        refusal{"same_folder", "[[model]]\npath = \"x/a\"\n[[model]]\npath = \"y/a/\"",
                "t.toml: two models are called \"a\"; give one another name"},
        refusal{"block", "[cache]\nmemory = \"1MiB\"\nblock = \"2MiB\"",
                "t.toml: cache.block (2097152 bytes) is larger than cache.memory (1048576 bytes)"},
        refusal{"step", "[scheduler]\nmax_sequences = 64\nstep_tokens = 32",
                "t.toml: scheduler.step_tokens (32) is less than scheduler.max_sequences (64): not every "
                "sequence could "
                "advance in a step"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(Config, NamesTheLineOfBrokenSyntax) {
  EXPECT_TRUE(problem("[server]\nlisten = [\n").starts_with("t.toml:")) << problem("[server]\nlisten = [\n");
  EXPECT_NE(problem("[cache]\nmemory = \"1GiB\"\nmemory = \"2GiB\"").find("t.toml:3"), std::string::npos);
}

TEST(Config, TakesRelativePathsFromTheFilesFolder) {
  const fs::path folder = fs::temp_directory_path() / ("troupe-config-" + std::to_string(getpid()));
  fs::create_directories(folder);
  std::ofstream(folder / "a.toml") << "[[model]]\npath = \"m\"\n";
  const auto outcome = config::load(folder / "a.toml");
  ASSERT_TRUE(outcome) << outcome.error().text;
  EXPECT_EQ(outcome->models.at(0).path, folder / "m");
  fs::remove_all(folder);
}

TEST(Config, SaysThatAFileCannotBeRead) {
  for (const char* name : {"/nonexistent/troupe.toml", "/tmp"}) {
    const auto outcome = config::load(name);
    ASSERT_FALSE(outcome) << name;
    EXPECT_EQ(outcome.error().code, error_code::not_found);
    EXPECT_NE(outcome.error().text.find(name), std::string::npos);
  }
}

TEST(Config, AssignsSingleKeys) {
  config::configuration c;
  EXPECT_TRUE(config::assign(c, "cache.memory=1GiB"));
  EXPECT_TRUE(config::assign(c, "server.drain=\"2s\""));
  EXPECT_TRUE(config::assign(c, "server.listen=[\"tcp://127.0.0.1:0\"]"));
  EXPECT_TRUE(config::assign(c, "cache.prefix_cache=false"));
  EXPECT_TRUE(config::assign(c, "device.threads=3"));
  EXPECT_TRUE(config::assign(c, "log.file="));
  EXPECT_EQ(c.cache.memory.bytes, 1u << 30);
  EXPECT_EQ(c.server.drain, 2s);
  EXPECT_EQ(c.server.listen, std::vector<std::string>{"tcp://127.0.0.1:0"});
  EXPECT_FALSE(c.cache.prefix_cache);
  EXPECT_EQ(c.device.threads, 3u);
}

TEST(Config, RefusesAssignmentsThatFitNoKey) {
  config::configuration c;
  const auto text = [&](std::string_view assignment) {
    const auto outcome = config::assign(c, assignment);
    return outcome ? std::string("no error") : outcome.error().text;
  };
  EXPECT_EQ(text("cache.memori=1GiB"), "\"cache.memori\": no such key; did you mean \"cache.memory\"?");
  EXPECT_EQ(text("memory"), "\"memory\": expected section.key=value");
  EXPECT_EQ(text("device.threads=lots"), "device.threads is lots; expected a whole number from 0 to 1024");
  EXPECT_EQ(text("model.name=x"), "\"model.name\": models cannot be set this way; name folders with --model");
  EXPECT_EQ(c, config::configuration{});
}

TEST(Config, ChoosesBlocksThatHoldSixteenTokensUnlessTold) {
  config::cache_section cache;
  const std::uint64_t KiB = 1024;
  EXPECT_EQ(cache.block_for(0), 64 * KiB) << "a model without keys and values";
  EXPECT_EQ(cache.block_for(128), 64 * KiB);
  EXPECT_EQ(cache.block_for(4 * KiB), 64 * KiB);
  EXPECT_EQ(cache.block_for(4 * KiB + 1), 128 * KiB);
  EXPECT_EQ(cache.block_for(256 * KiB), 4096 * KiB) << "Mixtral 8x7B in f32";
  cache.memory = {1024 * KiB};
  EXPECT_EQ(cache.block_for(256 * KiB), 1024 * KiB) << "never more than there is";
  cache.block = config::byte_count{4096};
  EXPECT_EQ(cache.block_for(256 * KiB), 4096u) << "what the operator wrote";
}

TEST(Config, TakesBlocksThatTheServerChooses) {
  EXPECT_EQ(parse("[cache]\nblock = \"auto\"")->cache.block, std::nullopt);
  config::configuration c;
  ASSERT_TRUE(config::assign(c, "cache.block=8KiB"));
  EXPECT_EQ(c.cache.block, config::byte_count{8192});
  ASSERT_TRUE(config::assign(c, "cache.block=auto"));
  EXPECT_EQ(c.cache.block, std::nullopt);
}

TEST(Config, NamesAModelAfterItsFolderHoweverThePathIsSpelt) {
  for (const char* path :
       {"/models/mixtral", "/models/mixtral/", "/models/mixtral/.", "/models/x/../mixtral//"})
    EXPECT_EQ(config::name_of({.path = path}), "mixtral") << path;
  EXPECT_EQ(config::name_of({.path = "."}), fs::current_path().filename());
  EXPECT_EQ(config::name_of({.path = "/"}), "/");
  EXPECT_EQ(config::name_of({.name = "mine", .path = "/models/mixtral"}), "mine");
}

TEST(Config, ChecksEndpointsThatNoParserSaw) {
  config::configuration c;
  c.server.listen = {"127.0.0.1:7410"};
  const auto outcome = config::check(c);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().text,
            "server.listen: \"127.0.0.1:7410\" is no endpoint; expected tcp://address:port or ipc://path");
}

TEST(Config, KnowsWhichEndpointsOnlyThisMachineReaches) {
  for (const char* local : {"ipc:///run/troupe", "tcp://127.0.0.1:7410", "tcp://127.8.8.8:*",
                            "tcp://[::1]:7410", "tcp://localhost:7410"})
    EXPECT_TRUE(config::is_local_endpoint(local)) << local;
  for (const char* open : {"tcp://0.0.0.0:7410", "tcp://*:7410", "tcp://box:7410", "tcp://10.127.0.1:7410",
                           "tcp://localhost.example.org:7410", "tcp://[::]:7410"})
    EXPECT_FALSE(config::is_local_endpoint(open)) << open;
}

TEST(Config, ReadsSizesAndDurationsWithUnits) {
  EXPECT_EQ(config::parse_size("3KiB")->bytes, 3072u);
  EXPECT_EQ(config::parse_size("2 TiB")->bytes, std::uint64_t{2} << 40);
  for (const char* wrong :
       {"", "MiB", "1", "-1MiB", "1.5MiB", "1MB", "99999999999999999999B", "9999999999TiB"})
    EXPECT_FALSE(config::parse_size(wrong)) << wrong;
  EXPECT_EQ(config::parse_duration("1h"), 60min);
  EXPECT_EQ(config::parse_duration("7ms"), 7ms);
  for (const char* wrong : {"", "s", "1", "1 day", "-1s"})
    EXPECT_FALSE(config::parse_duration(wrong)) << wrong;
}

}  // namespace
