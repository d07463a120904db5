// The real command as a person or a script runs it, without a server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/cli/process.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;

const std::string source = TROUPE_SOURCE_DIR;
const std::string mixtral = source + "/demo/mixtral-demo";
const std::string published = source + "/tests/modules/configs/";

boost::json::value parsed(const outcome& o) {
  EXPECT_EQ(o.status, 0) << o.err;
  boost::system::error_code problem;
  auto v = boost::json::parse(o.out, problem);
  EXPECT_FALSE(problem) << o.out;
  return v;
}

// One line, "troupe: error: ...".
void expect_error(const outcome& o, int status, const std::string& text) {
  EXPECT_EQ(o.status, status) << o.out << o.err;
  EXPECT_THAT(o.err, StartsWith("troupe: error: "));
  EXPECT_THAT(o.err, HasSubstr(text));
  EXPECT_EQ(std::count(o.err.begin(), o.err.end(), '\n'), 1) << o.err;
  EXPECT_THAT(o.out, IsEmpty());
}

class HelpOf : public ::testing::TestWithParam<std::string> {};

TEST_P(HelpOf, TeachesWithAnExample) {
  const auto o = run_shell("\"$TROUPE\" " + GetParam() + " --help");
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("Example"));
  EXPECT_THAT(o.out, HasSubstr("  troupe " + GetParam()));
  EXPECT_THAT(o.err, IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(EveryCommand, HelpOf,
                         ::testing::Values("serve", "chat", "generate", "models", "status", "load", "unload",
                                           "swap", "deploy", "promote", "rollback", "sleep", "drain", "wake",
                                           "pin", "history", "events", "tokenize", "program", "program diff",
                                           "module", "module list", "module inspect", "module new",
                                           "module check", "module sign", "module trust", "module trust list",
                                           "module trust add", "module trust remove", "check", "synth",
                                           "completion", "version"),
                         [](const auto& param) {
                           std::string name = param.param;
                           std::replace(name.begin(), name.end(), ' ', '_');
                           return name;
                         });

// A folder with a copy of a module, a key and an empty list of what is trusted.
class ModuleTrust : public ::testing::Test {
 protected:
  ModuleTrust() {
    std::filesystem::copy_file(TROUPE_BINARY_DIR "/lib/troupe/modules/mixtral.so", file_);
    // The secret of RFC 8032, 7.1, test 1.
    folder_.write("key.pem",
                  "-----BEGIN PRIVATE KEY-----\n"
                  "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
                  "-----END PRIVATE KEY-----\n");
  }
  outcome run(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), "module");
    return run_troupe(arguments, {}, {{"XDG_CONFIG_HOME", (folder_.path() / "config").string()}});
  }
  troupe::test::temp_folder folder_;
  std::string file_ = folder_.path() / "mine.so";
  std::string key_ = folder_.path() / "key.pem";
};

TEST_F(ModuleTrust, IsListedAndTakenBack) {
  EXPECT_THAT(run({"trust", "list"}).out, HasSubstr("nothing is listed"));
  const auto added = run({"trust", "add", file_});
  EXPECT_EQ(added.status, 0) << added.err;
  const auto list = parsed(run({"trust", "list", "--json"}));
  ASSERT_EQ(list.at("entries").as_array().size(), 1u);
  const auto& entry = list.at("entries").at(0);
  EXPECT_EQ(entry.at("kind"), "sha256");
  EXPECT_EQ(entry.at("note"), "mine.so");
  EXPECT_EQ(parsed(run({"inspect", file_, "--json"})).at("trusted"), true);
  const auto gone = run({"trust", "remove", std::string(entry.at("hex").as_string()).substr(0, 8)});
  EXPECT_EQ(gone.status, 0) << gone.err;
  EXPECT_EQ(parsed(run({"inspect", file_, "--json"})).at("trusted"), false);
}

TEST_F(ModuleTrust, KeepsItsNoteWhenItIsAddedAgain) {
  EXPECT_EQ(run({"trust", "add", file_, "--note", "reviewed"}).status, 0);
  EXPECT_EQ(run({"trust", "add", "--key", key_, "--note", "the author"}).status, 0);
  EXPECT_THAT(run({"trust", "add", file_}).out, HasSubstr("is already there"));
  EXPECT_THAT(run({"trust", "add", "--key", key_}).out, HasSubstr("is already there"));
  const auto list = run({"trust", "list"}).out;
  EXPECT_THAT(list, HasSubstr("reviewed"));
  EXPECT_THAT(list, HasSubstr("the author"));
}

TEST_F(ModuleTrust, ComesWithASignature) {
  const auto made = run({"sign", file_, "--key", key_});
  EXPECT_EQ(made.status, 0) << made.err;
  EXPECT_EQ(parsed(run({"inspect", file_, "--json"})).at("trusted"), false);
  const auto added = run({"trust", "add", "--key", key_, "--note", "the author"});
  EXPECT_EQ(added.status, 0) << added.err;
  const auto module = parsed(run({"inspect", file_, "--json"}));
  EXPECT_EQ(module.at("trusted"), true);
  EXPECT_THAT(std::string(module.at("trust").as_string()), HasSubstr("(the author)"));
}

TEST_F(ModuleTrust, SaysWhatIsWrong) {
  expect_error(run({"trust", "add"}), 2, "expected one of: a module file, --key, --sha256");
  expect_error(run({"trust", "add", "--sha256", "12"}), 2,
               "--sha256: expected 64 lowercase hex digits, found 12");
  expect_error(run({"trust", "remove", "12345678"}), 2,
               "expected exactly one entry whose digits begin with 12345678");
  expect_error(run({"sign", file_, "--key", mixtral + "/config.json"}), 2,
               "expected an Ed25519 private key in PEM");
}

TEST(Command, HelpListsEveryCommand) {
  const auto o = run_troupe({"--help"});
  EXPECT_EQ(o.status, 0);
  for (const char* name :
       {"serve",  "chat",     "generate", "models", "status", "load",   "unload", "swap",
        "deploy", "promote",  "rollback", "sleep",  "drain",  "wake",   "pin",    "history",
        "events", "tokenize", "program",  "module", "check",  "version"})
    EXPECT_THAT(o.out, HasSubstr(std::string("\n  ") + name + " "));
}

TEST(Command, MistypedCommandNamesTheNearest) {
  expect_error(run_troupe({"generat"}), 2, "did you mean generate?");
}

TEST(Command, MistypedOptionNamesTheNearest) {
  expect_error(run_troupe({"generate", "--temprature", "0", "Hi"}), 2, "did you mean --temperature?");
  expect_error(run_troupe({"module", "list", "--jsn"}), 2, "did you mean --json?");
}

TEST(Command, OptionWithAWrongTypeOfValueSaysSo) {
  expect_error(run_troupe({"generate", "--top-k", "many", "Hi"}), 2, "--top-k");
}

TEST(Command, OperationsSayWhatIsWrongWithTheirOptions) {
  expect_error(run_troupe({"load"}), 2, "checkpoint is required");
  expect_error(run_troupe({"unload"}), 2, "model is required");
  expect_error(run_troupe({"unload", "fox", "--deadline", "soon"}), 2, "\"soon\" is no duration");
  expect_error(run_troupe({"load", "x", "--expected-generation", "new"}), 2, "--expected-generation");
  expect_error(run_troupe({"load", "x", "--expected-generation=-3"}), 2, "generations count from 0");
  expect_error(run_troupe({"swap", "fox", "x.so", "--verify", "inf"}), 2, "--verify");
  expect_error(run_troupe({"swap", "fox"}), 2, "module is required");
  expect_error(run_troupe({"swap", "fox", "x.so", "--move", "jump"}), 2,
               "none of automatic, carry, recompute, finish");
  expect_error(run_troupe({"swap", "fox", "x.so", "--verify", "-1"}), 2,
               "none of exact, off, or a number above 0");
  expect_error(run_troupe({"swap", "fox", "x.so", "--probation", "long"}), 2, "\"long\" is no duration");
  expect_error(run_troupe({"deploy", "fox", "x", "--share", "200%"}), 2, "expected 1% to 100%");
  expect_error(run_troupe({"rollback", "fox", "--deadline", "soon"}), 2, "\"soon\" is no duration");
  expect_error(run_troupe({"status", "--watch", "--every", "0s"}), 2, "is no duration");
}

TEST(Command, NothingToDoShowsHelpAndFails) {
  const auto o = run_troupe({});
  EXPECT_EQ(o.status, 2);
  EXPECT_THAT(o.err, HasSubstr("troupe serve"));
}

TEST(Command, NoServerSaysHowToStartOne) {
  for (const char* command : {"models", "status", "history", "events"}) {
    const auto o = run_troupe({command, "--endpoint", "tcp://127.0.0.1:9"});
    expect_error(o, 1, "no server at tcp://127.0.0.1:9: start one with `troupe serve`");
    EXPECT_THAT(o.err, Not(HasSubstr("--model"))) << "it takes no model";
  }
  expect_error(run_troupe({"generate", "--endpoint", "tcp://127.0.0.1:9", "Hi"}), 1,
               "--model a checkpoint folder");
  expect_error(run_troupe({"chat", "--endpoint", "tcp://127.0.0.1:9"}, "Hi\n"), 1, "no server at");
  expect_error(run_troupe({"tokenize", "--endpoint", "tcp://127.0.0.1:9", "Hi"}), 1, "no server at");
}

TEST(Command, EndpointMayComeFromTheEnvironment) {
  expect_error(run_troupe({"models"}, "", {{"TROUPE_ENDPOINT", "tcp://127.0.0.1:9"}}), 1,
               "no server at tcp://127.0.0.1:9");
}

TEST(Command, EndpointThatIsNoneIsExplained) {
  expect_error(run_troupe({"models", "--endpoint", "nonsense"}), 2, "nonsense");
}

TEST(Version, SaysWhatThisBuildIs) {
  const auto v = parsed(run_troupe({"version", "--json"}));
  EXPECT_THAT(std::string(v.at("version").as_string()), MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
  EXPECT_EQ(v.at("protocol").to_number<int>(), 1);
  EXPECT_EQ(v.at("abi_major").to_number<int>(), 1);
  EXPECT_EQ(v.at("backends").at(0).as_string(), "cpu");
  EXPECT_THAT(run_troupe({"version"}).out, StartsWith("troupe " + std::string(v.at("version").as_string())));
}

TEST(Program, IsPrintedReadablyAndAsJson) {
  const auto text = run_troupe({"program", mixtral});
  EXPECT_EQ(text.status, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("MixtralForCausalLM"));
  const auto full = run_troupe({"program", mixtral, "--full"});
  EXPECT_GT(full.out.size(), text.out.size()) << "folding equal layers makes it shorter";
  EXPECT_GT(parsed(run_troupe({"program", mixtral, "--json"})).at("ops").as_array().size(), 50U);
}

TEST(Program, DemoCheckpointsAreKnownByName) {
  EXPECT_EQ(run_troupe({"program", "mixtral-demo"}).out, run_troupe({"program", mixtral}).out);
  expect_error(run_troupe({"program", "mixtral-dmo"}), 2, "did you mean mixtral-demo?");
}

TEST(Program, ConfigurationMayStandAlone) {
  const auto o = run_troupe({"program", "--config", mixtral + "/config.json"});
  EXPECT_EQ(o.out, run_troupe({"program", mixtral}).out);
  expect_error(run_troupe({"program", "--config", "/no/such.json"}), 2, "/no/such.json");
  expect_error(run_troupe({"program", mixtral, "--config", mixtral + "/config.json"}), 2, "found both");
  expect_error(run_troupe({"program"}), 2, "expected a checkpoint folder, or a configuration with --config");
}

TEST(Program, ModuleMayBeNamed) {
  const auto listed = parsed(run_troupe({"module", "list", "--json"}));
  std::map<std::string, std::string> files;  // of the modules, by name
  for (const auto& m : listed.at("modules").as_array())
    files.emplace(m.at("name").as_string(), m.at("file").as_string());
  EXPECT_EQ(run_troupe({"program", mixtral, "--module", files.at("mixtral")}).status, 0);
  expect_error(run_troupe({"program", mixtral, "--module", files.at("dbrx")}), 2, "MixtralForCausalLM");
  expect_error(run_troupe({"program", mixtral, "--module", "/no/such.so"}), 2, "/no/such.so");
}

TEST(Program, FolderThatIsNoCheckpointIsExplained) {
  expect_error(run_troupe({"program", "./no/such/folder"}), 2, "./no/such/folder: no such folder");
  expect_error(run_troupe({"program", source + "/docs"}), 2, "no config.json");
  expect_error(run_troupe({"program", mixtral + "/config.json"}), 2, "expected a checkpoint folder");
}

// A demo checkpoint's small files under the name of an architecture that nobody serves.
class unknown_checkpoint {
 public:
  unknown_checkpoint() {
    for (const char* name : {"tokenizer.json", "tokenizer_config.json", "generation_config.json"})
      std::filesystem::copy_file(mixtral + "/" + name, folder_.path() / name);
    std::ifstream file(mixtral + "/config.json");
    std::string text((std::istreambuf_iterator<char>(file)), {});
    text.replace(text.find("MixtralForCausalLM"), 18, "NobodyForCausalLM");
    folder_.write("config.json", text);
  }
  std::string path() const { return folder_.path().string(); }

 private:
  troupe::test::temp_folder folder_;
};
const char* const no_module =
    "no module for NobodyForCausalLM (loaded: DbrxForCausalLM, JambaForCausalLM, MixtralForCausalLM";

TEST(Program, ArchitectureWithoutAModuleListsThoseThatAreLoaded) {
  const unknown_checkpoint unknown;
  expect_error(run_troupe({"program", unknown.path()}), 2, no_module);
}

TEST(ProgramDiff, EndsAsDiffDoes) {
  const auto same = run_troupe({"program", "diff", mixtral, mixtral + "/config.json"});
  EXPECT_EQ(same.status, 0) << same.err;
  EXPECT_THAT(same.out, HasSubstr("no difference\n"));
  const auto other = run_troupe({"program", "diff", "mixtral-demo", published + "mixtral-8x7b.json"});
  EXPECT_EQ(other.status, 1) << other.err;
  EXPECT_THAT(other.out, HasSubstr("  layers"));
  EXPECT_THAT(other.out, HasSubstr("not kept: 32 layers instead of 6"));
  EXPECT_THAT(other.out,
              HasSubstr("model.layers.6  (to model.layers.31: 26 alike)\n    + rms_norm input_layernorm"));
  EXPECT_THAT(other.out, HasSubstr("hidden_states.*  none -> add  x 25\n"));
  expect_error(run_troupe({"program", "diff", mixtral, "./no/such/folder"}), 2, "./no/such/folder");
  expect_error(run_troupe({"program", "diff", mixtral, mixtral, "--module-b", "/no/such.so"}), 2,
               "/no/such.so");
  EXPECT_EQ(run_troupe({"program", "diff", mixtral}).status, 2);
}

TEST(ProgramDiff, IsJsonForScripts) {
  const auto o = run_troupe(
      {"program", "diff", published + "mixtral-8x7b.json", published + "mixtral-8x22b.json", "--json"});
  EXPECT_EQ(o.status, 1);
  const auto v = boost::json::parse(o.out);
  EXPECT_FALSE(v.at("equal").as_bool());
  EXPECT_FALSE(v.at("swap").at("keeps_caches").as_bool());
  EXPECT_EQ(v.at("swap").at("shared").at("weights").to_number<int>(), 0);
}

TEST(Module, ListShowsTheInstalledOnes) {
  EXPECT_THAT(run_troupe({"module", "list"}).out, HasSubstr("mixtral"));
  const auto v = parsed(run_troupe({"module", "list", "--json"}));
  EXPECT_THAT(v.at("broken").as_array(), IsEmpty());
  EXPECT_FALSE(v.at("modules").as_array().empty());
}

TEST(Module, InspectSaysWhatAFileIs) {
  const auto listed = parsed(run_troupe({"module", "list", "--json"}));
  std::string file;
  for (const auto& m : listed.at("modules").as_array())
    if (m.at("name").as_string() == "mixtral") file = m.at("file").as_string().c_str();
  const auto v = parsed(run_troupe({"module", "inspect", file, "--json"}));
  EXPECT_EQ(v.at("architectures").at(0).as_string(), "MixtralForCausalLM");
  EXPECT_EQ(v.at("sha256").as_string().size(), 64U);
  EXPECT_THAT(run_troupe({"module", "inspect", file}).out, HasSubstr("MixtralForCausalLM"));
}

TEST(Module, InspectListsNativeOps) {
  const std::string file = TROUPE_BINARY_DIR "/lib/troupe/modules/jamba.so";
  const auto v = parsed(run_troupe({"module", "inspect", file, "--json"}));
  const auto& scan = v.at("native_ops").at(1);
  EXPECT_EQ(scan.at("name").as_string(), "selective_scan");
  EXPECT_EQ(scan.at("version").to_number<int>(), 1);
  EXPECT_EQ(scan.at("devices").at(0).as_string(), "cpu");  // and "cuda" where it was built with it
  EXPECT_EQ(scan.at("states").at(0).as_string(), "ssm");
  EXPECT_THAT(run_troupe({"module", "inspect", file}).out, HasSubstr("causal_conv"));
  EXPECT_THAT(run_troupe({"module", "inspect", TROUPE_BINARY_DIR "/lib/troupe/modules/mixtral.so"}).out,
              HasSubstr("no native ops"));
}

TEST(Module, InspectSaysWhyAFileIsNone) {
  expect_error(run_troupe({"module", "inspect", mixtral + "/config.json"}), 2, "config.json");
  expect_error(run_troupe({"module", "inspect", "/no/such/module.so"}), 2, "/no/such/module.so");
}

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(Module, NewWritesAProjectUnderItsName) {
  const test::temp_folder folder;
  const auto where = folder.path() / "here";
  const auto o = run_troupe({"module", "new", "tiny_net", "--dir", where.string()});
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("tiny_net.cpp"));
  EXPECT_THAT(o.out, HasSubstr("  cmake -S " + where.string() + " -B "));
  EXPECT_THAT(text_of(where / "CMakeLists.txt"),
              HasSubstr("troupe_add_module(tiny_net SOURCES tiny_net.cpp)"));
  EXPECT_THAT(text_of(where / "tiny_net.cpp"), HasSubstr("\"TinyNetForCausalLM\""));
  EXPECT_THAT(text_of(where / "config.json"), HasSubstr("[\"TinyNetForCausalLM\"]"));
  EXPECT_THAT(text_of(where / "README.md"), StartsWith("# tiny_net\n"));
  for (const auto& file : std::filesystem::directory_iterator(where))
    EXPECT_THAT(text_of(file), Not(HasSubstr("my_model"))) << file.path();
}

// The build tree has no package: a project can be built once Troupe is installed.
TEST(Module, NewOfABuildTreeTellsToInstallFirst) {
  const test::temp_folder folder;
  const auto where = (folder.path() / "here").string();
  const auto o = run_troupe({"module", "new", "tiny_net", "--dir", where});
  EXPECT_THAT(
      o.out,
      HasSubstr("next:\n  cmake --install \"" TROUPE_BINARY_DIR "\" --prefix \"$HOME/.local\"\n  cmake -S " +
                where + " -B " + where + "/build -DCMAKE_PREFIX_PATH=\"$HOME/.local\"\n  cmake --build "));
}

TEST(Module, NewTakesTheArchitectureOfACheckpoint) {
  const test::temp_folder folder;
  const auto where = (folder.path() / "here").string();
  EXPECT_EQ(
      run_troupe({"module", "new", "llama", "--dir", where, "--architecture", "LlamaForCausalLM"}).status, 0);
  EXPECT_THAT(text_of(where + "/config.json"), HasSubstr("[\"LlamaForCausalLM\"]"));
  expect_error(run_troupe({"module", "new", "b", "--dir", where + "2", "--architecture", "a b"}), 2,
               "--architecture a b");
}

TEST(Module, NewOverwritesNothing) {
  const test::temp_folder folder;
  const auto file = folder.write("mine.txt", "mine");
  expect_error(run_troupe({"module", "new", "a", "--dir", folder.path().string()}), 2,
               "not empty; nothing was written");
  expect_error(run_troupe({"module", "new", "a", "--dir", file.string()}), 2,
               "is a file; nothing was written");
  EXPECT_EQ(text_of(file), "mine");
}

TEST(Module, NewRefusesNamesThatWillNotDo) {
  const test::temp_folder folder;
  for (const char* name : {"MyModel", "1st", "my-model", "../x", "a b", "_a"})
    expect_error(run_troupe({"module", "new", name, "--dir", (folder.path() / "x").string()}), 2,
                 "not a name for a module: expected a-z, 0-9 and _");
  expect_error(run_troupe({"module", "new", "test", "--dir", (folder.path() / "x").string()}), 2,
               "CMake has a target of this name");
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "x"));
}

TEST(Module, NeedsToBeToldWhatToDo) {
  EXPECT_EQ(run_troupe({"module"}).status, 2);
}

TEST(Tokenize, WorksOnAFolderWithoutAServer) {
  const auto v = parsed(run_troupe({"tokenize", "--model", mixtral, "--json", "The capital of France"}));
  EXPECT_EQ(v.at("ids").at(0).to_number<int>(), 1) << "beginning of sequence";
  EXPECT_EQ(v.at("ids").as_array().size(), v.at("pieces").as_array().size());
  std::string ids;
  for (const auto& id : v.at("ids").as_array()) ids += std::to_string(id.to_number<int>()) + " ";
  EXPECT_EQ(
      run_shell("\"$TROUPE\" tokenize --model " + mixtral + " --decode --skip-special-tokens " + ids).out,
      "The capital of France\n");
}

TEST(Tokenize, ReadsStandardInputAndMayLeaveSpecialTokensOut) {
  const auto with = parsed(run_troupe({"tokenize", "--model", mixtral, "--json"}, "Hello\n"));
  const auto without =
      parsed(run_troupe({"tokenize", "--model", mixtral, "--json", "--no-special-tokens", "Hello"}));
  EXPECT_EQ(with.at("ids").as_array().size(), without.at("ids").as_array().size() + 1);
}

TEST(Tokenize, ShowsIdsAndPieces) {
  const auto o = run_troupe({"tokenize", "--model", mixtral, "Hello"});
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("tokens\n"));
  EXPECT_THAT(o.out, HasSubstr("'<s>'"));
}

TEST(Tokenize, WordThatIsNoIdIsAnError) {
  expect_error(run_troupe({"tokenize", "--model", mixtral, "--decode", "1", "two"}), 2,
               "two: expected a token id");
}

TEST(Generate, InputsThatContradictEachOtherAreRefused) {
  EXPECT_EQ(run_troupe({"generate", "--raw", "--system", "x", "Hi"}).status, 2);
  EXPECT_EQ(run_troupe({"generate", "--ids", "1,2", "Hi"}).status, 2);
  EXPECT_EQ(run_troupe({"generate", "--messages", "-", "Hi"}, "[]").status, 2);
  expect_error(run_troupe({"generate", "--logit-bias", "x", "Hi"}), 2, "expected id=bias");
  expect_error(run_troupe({"generate", "--messages", "/no/such/file"}), 2, "/no/such/file");
  expect_error(run_troupe({"generate", "--messages", "-"}, "{\"role\": 1}"), 2, "expected a JSON array");
}

TEST(Generate, AnswersFromAFolderWithoutAServer) {
  const auto o =
      run_troupe({"generate", "--model", mixtral, "--temperature", "0", "What is the capital of France?"});
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(o.out, "The capital of France is Paris.\n");
}

TEST(Generate, AnswersWithTheOtherArchitecturesAsItDoesWithMixtral) {
  for (const char* model : {"/demo/dbrx-demo", "/demo/jamba-demo"}) {
    const auto o = run_troupe(
        {"generate", "--model", source + model, "--temperature", "0", "What is the capital of France?"});
    EXPECT_EQ(o.status, 0) << o.err;
    EXPECT_EQ(o.out, "The capital of France is Paris.\n") << model;
  }
}

// However a command that serves itself ends, its socket's folder does not stay behind.
TEST(Generate, FromAFolderLeavesNothingBehindWhenASignalEndsIt) {
  for (const int signal : {SIGTERM, SIGHUP, SIGKILL}) {
    const test::temp_folder temporary;
    terminal_session t({"generate", "--model", mixtral, "--raw", "--ignore-eos", "-m", "3500", "-t", "0",
                        "Once upon a time there"},
                       {{"TMPDIR", temporary.path().string()}});
    ASSERT_TRUE(t.wait_for("was")) << t.screen();
    t.signal(signal);
    EXPECT_EQ(t.wait_for_end(), 128 + signal) << t.screen();
    EXPECT_TRUE(std::filesystem::is_empty(temporary.path())) << signal;
  }
}

TEST(Generate, FromAFolderLeavesNothingBehindWhenASignalEndsItWhileItLoads) {
  const test::temp_folder temporary;
  terminal_session t({"generate", "--model", mixtral, "Hi"}, {{"TMPDIR", temporary.path().string()}});
  const auto end = std::chrono::steady_clock::now() + patience;
  while (std::filesystem::is_empty(temporary.path()) && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  t.signal(SIGTERM);
  EXPECT_EQ(t.wait_for_end(), 128 + SIGTERM) << t.screen();
  EXPECT_TRUE(std::filesystem::is_empty(temporary.path()));
}

TEST(Generate, FolderThatCannotBeServedIsExplained) {
  const unknown_checkpoint unknown;
  expect_error(run_troupe({"generate", "--model", unknown.path(), "Hi"}), 2, "NobodyForCausalLM");
  expect_error(run_troupe({"generate", "--model", "./nowhere", "Hi"}), 2, "./nowhere");
}

TEST(Models, LocalOnesNeedNoServer) {
  EXPECT_EQ(parsed(run_troupe({"models", "--local", "--json"})).at("models").as_array().size(), 3U);
  EXPECT_THAT(run_troupe({"models", "--local"}).out, HasSubstr("DbrxForCausalLM"));
}

TEST(Check, TextGroupsOfAnArchitectureWithoutAModulePass) {
  const unknown_checkpoint unknown;
  const auto o = run_troupe({"check", unknown.path(), "--goldens", source + "/tests/golden/mixtral", "--only",
                             "tokenizer,template", "--json"});
  EXPECT_TRUE(parsed(o).at("ok").as_bool()) << o.out;
}

TEST(Check, GroupThatCannotRunIsAFailureAndSaysWhy) {
  const unknown_checkpoint unknown;
  const auto o = run_troupe(
      {"check", unknown.path(), "--goldens", source + "/tests/golden/mixtral", "--only", "template,logits"});
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.out, HasSubstr(no_module));
  EXPECT_THAT(o.err, HasSubstr("checking template"));
}

TEST(Check, WithoutReferenceOutputsChecksTheFolderItself) {
  const auto v = parsed(run_troupe({"check", mixtral, "--json"}));
  EXPECT_EQ(v.at("groups").as_array().size(), 4U);
}

// The seed decides every number, on the CPU as on a GPU.
TEST(Synth, TheSameSeedMakesTheSameModel) {
  const auto said = [](const char* seed) {
    const auto o =
        run_troupe({"synth", "--config", mixtral + "/config.json", "--device", "cpu", "--seed", seed});
    EXPECT_EQ(o.status, 0) << o.err;
    return o.out.substr(o.out.find("seed "));
  };
  EXPECT_EQ(said("1"), said("1"));
  EXPECT_NE(said("1"), said("2"));
}

TEST(Synth, WritesAFolderThatCheckTakes) {
  const test::temp_folder folder;
  const auto out = (folder.path() / "made").string();
  const auto o = run_troupe({"synth", "--config", mixtral + "/config.json", "--out", out});
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_FALSE(std::filesystem::exists(out + "/model.safetensors"));
  EXPECT_EQ(run_troupe({"check", out}).status, 0);
  expect_error(run_troupe({"synth", "--config", mixtral + "/config.json", "--out", out}), 2,
               "is there already");
}

TEST(Synth, MistakesAreExplained) {
  expect_error(run_troupe({"synth", "--config", "/no/such.json"}), 2, "/no/such.json");
  expect_error(
      run_troupe({"synth", "--config", mixtral + "/config.json", "--device", "cpu", "--weights", "int8"}), 1,
      "device.weights");
  EXPECT_EQ(run_troupe({"synth"}).status, 2);
}

TEST(Check, MistakesAreExplained) {
  expect_error(run_troupe({"check", mixtral, "--module", "/no/such.so"}), 2, "/no/such.so");
  expect_error(run_troupe({"check", mixtral, "--goldens", "/no/such/folder"}), 2,
               "/no/such/folder: no such folder");
  expect_error(run_troupe({"check", mixtral, "--only", "wights"}), 2, "did you mean weights?");
  EXPECT_EQ(run_troupe({"check"}).status, 2);
}

TEST(Completion, OffersCommandsAndOptions) {
  const auto o = run_shell(
      "source <(\"$TROUPE\" completion bash); "
      "COMP_WORDS=(troupe gen); COMP_CWORD=1; _troupe; echo \"${COMPREPLY[@]}\"; "
      "COMP_WORDS=(troupe generate --temp); COMP_CWORD=2; _troupe; echo \"${COMPREPLY[@]}\"; "
      "COMP_WORDS=(troupe module in); COMP_CWORD=2; _troupe; echo \"${COMPREPLY[@]}\"");
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(o.out, "generate\n--temperature\ninspect\n");
}

TEST(Completion, OtherShellsAreRefused) {
  expect_error(run_troupe({"completion", "tcsh"}), 2, "tcsh");
}

TEST(Output, ReaderThatHasGoneEndsTheCommandQuietly) {
  const auto o =
      run_shell("(sleep 0.5; exec \"$TROUPE\" program " + mixtral + ") | true; exit ${PIPESTATUS[0]}");
  EXPECT_NE(o.status, 0);
  EXPECT_THAT(o.err, IsEmpty());
}

}  // namespace
}  // namespace troupe::testing
