#include "sandbox/cell/cell.hpp"

#include <gmock/gmock.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <thread>

namespace troupe::sandbox {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

const fs::path mixtral = TROUPE_BINARY_DIR "/lib/troupe/modules/mixtral.so";
const fs::path module_folder = CELL_MODULES;

std::string demo_config() {
  std::ifstream in(TROUPE_SOURCE_DIR "/demo/mixtral-demo/config.json");
  return {std::istreambuf_iterator<char>(in), {}};
}

std::size_t open_files() {
  const fs::directory_iterator files("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(files), end(files)));
}

TEST(Cell, TellsWhatTheModuleSaysOfItself) {
  const auto report = run_cell(installed_cell(), mixtral, std::nullopt);
  ASSERT_TRUE(report) << report.error().text;
  EXPECT_EQ(report->table.name, "mixtral");
  EXPECT_EQ(report->table.version, "1.0.0");
  EXPECT_EQ(report->table.abi_major, 1);
  EXPECT_THAT(report->table.architectures, ElementsAre("MixtralForCausalLM"));
  EXPECT_FALSE(report->program);
}

TEST(Cell, GivesTheVerifiedProgram) {
  const auto report = run_cell(installed_cell(), mixtral, demo_config());
  ASSERT_TRUE(report) << report.error().text;
  ASSERT_TRUE(report->program);
  EXPECT_EQ((*report->program)->facts()->vocabulary(), 4096u);
}

TEST(Cell, GivesTheSameBytesEachTime) {
  const auto first = run_cell(installed_cell(), mixtral, demo_config());
  const auto second = run_cell(installed_cell(), mixtral, demo_config());
  ASSERT_TRUE(first && second);
  EXPECT_TRUE(std::ranges::equal(first->program->bytes(), second->program->bytes()));
}

TEST(Cell, SaysWhichWallsStand) {
  const auto report = run_cell(installed_cell(), mixtral, std::nullopt);
  ASSERT_TRUE(report) << report.error().text;
  EXPECT_THAT(report->walls, testing::StartsWith("seccomp"));
  EXPECT_THAT(report->walls, HasSubstr("no capabilities"));
}

TEST(Cell, KeepsWhatTheModuleWrites) {
  const auto report = run_cell(installed_cell(), module_folder / "talks.so", "{}");
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().kind, verdict_kind::bad_config);
  EXPECT_EQ(report.error().text, "key: as it should");
  EXPECT_THAT(report.error().output, HasSubstr("to stdout"));
  EXPECT_THAT(report.error().output, HasSubstr("to stderr [31m"));
}

TEST(Cell, CleansWhatGoesToTerminalsAndLogs) {
  const auto report = run_cell(installed_cell(), module_folder / "has_an_ugly_name.so", std::nullopt);
  ASSERT_TRUE(report) << report.error().text;
  EXPECT_EQ(report->table.name, "ugly [31m ?");
}

TEST(Cell, RefusesALibraryThatNeedsOthers) {
  const auto report = run_cell(installed_cell(), module_folder / "needs_a_library.so", std::nullopt);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().kind, verdict_kind::bad_library);
  EXPECT_THAT(report.error().text, HasSubstr("libcell_dependency.so: cannot open shared object file"));
  EXPECT_THAT(report.error().text, HasSubstr("link others statically"));
}

TEST(Cell, SaysWhenItIsNotInstalled) {
  const auto report = run_cell("/nowhere/troupe-cell", mixtral, std::nullopt);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().kind, verdict_kind::not_started);
  EXPECT_THAT(report.error().text,
              HasSubstr("/nowhere/troupe-cell cannot be started: No such file or directory"));
}

TEST(Cell, SaysWhenTheLibraryIsGone) {
  const auto report = run_cell(installed_cell(), "/nowhere/module.so", std::nullopt);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().kind, verdict_kind::not_started);
  EXPECT_THAT(report.error().text, HasSubstr("/nowhere/module.so: cannot be read"));
}

TEST(Cell, MayBeOneOfSeveral) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([] {
      const auto report = run_cell(installed_cell(), mixtral, demo_config());
      EXPECT_TRUE(report) << report.error().text;
    });
  for (auto& thread : threads) thread.join();
}

TEST(Cell, LeavesNothingBehind) {
  const std::size_t before = open_files();
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(run_cell(installed_cell(), mixtral, demo_config()));
    EXPECT_FALSE(run_cell(installed_cell(), module_folder / "talks.so", "{}"));
    EXPECT_FALSE(run_cell("/nowhere/troupe-cell", mixtral, "{}"));
  }
  EXPECT_EQ(open_files(), before);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

void wait_for_a_child_of(pid_t parent) {
  const std::string list = fmt::format("/proc/{0}/task/{0}/children", parent);
  for (int i = 0; i < 1000; ++i) {
    std::ifstream in(list);
    if (pid_t child = 0; in >> child) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

// The child of this test plays the server; its own child, the cell, is handed to this test when the server dies.
TEST(Cell, DiesWithWhoStartedIt) {
  ASSERT_EQ(::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
  const pid_t server = ::fork();
  if (server == 0) {
    (void)run_cell(installed_cell(), HOSTILE_MODULES "/sleeps.so", "{}", {.wall = std::chrono::minutes(10)});
    ::_exit(0);
  }
  wait_for_a_child_of(server);
  ::kill(server, SIGKILL);
  int status = 0;
  ASSERT_EQ(::waitpid(server, &status, 0), server);
  ASSERT_GT(::waitpid(-1, &status, 0), 0) << "there was no cell";
  const bool was_told = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  const bool saw_it =
      WIFEXITED(status) && WEXITSTATUS(status) == 3;  // if it had only begun to lock itself in
  EXPECT_TRUE(was_told || saw_it) << status;
  ::prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
}

// What an unprivileged container's own filter refuses.
bool refuse_namespaces_and_landlock() {
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  int problem = 0;
  for (const char* name :
       {"unshare", "mount", "chroot", "setgroups", "setresuid", "landlock_create_ruleset"}) {
    const int call = seccomp_syscall_resolve_name(name);
    problem |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), call < 0 ? 444 : call, 0);
  }
  problem |= seccomp_load(filter);
  seccomp_release(filter);
  return problem == 0;
}

TEST(Cell, HoldsWithSeccompAloneAndSaysSo) {
  std::array<int, 2> ends = {};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const pid_t container = ::fork();
  if (container == 0) {
    if (!refuse_namespaces_and_landlock()) ::_exit(1);
    const auto report = run_cell(installed_cell(), mixtral, demo_config());
    const std::string text = report ? report->walls : report.error().text;
    const bool written = ::write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
    ::_exit(written ? 0 : 1);
  }
  ::close(ends[1]);
  std::array<char, 4096> text = {};
  EXPECT_GT(::read(ends[0], text.data(), text.size() - 1), 0);
  ::close(ends[0]);
  ::waitpid(container, nullptr, 0);
  EXPECT_THAT(text.data(), testing::StartsWith("seccomp; no capabilities"));
}

}  // namespace
}  // namespace troupe::sandbox
