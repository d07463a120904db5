#include "ops/backends/cuda/gemm.hpp"

#include <cublasLt.h>
#include <dlfcn.h>

#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "ops/backends/cuda/memory.hpp"
#include "ops/backends/cuda/status.hpp"

namespace troupe::ops::cuda {
namespace {

constexpr std::size_t workspace_bytes = std::size_t{32} << 20;

struct library {
  void* handle = nullptr;
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
  decltype(&cublasLtGetStatusString) status_string = nullptr;

  library() = default;
  library(const library&) = delete;
  library& operator=(const library&) = delete;
  ~library() {
    if (handle != nullptr) ::dlclose(handle);
  }

  result<void> open() {
    std::string tried;
    for (const char* name : {"libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13"}) {
      handle = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
      if (handle != nullptr) break;
      const char* why = ::dlerror();
      tried += fmt::format("{}{}", tried.empty() ? "" : "; ", why == nullptr ? name : why);
    }
    if (handle == nullptr)
      return fail(
          error_code::not_found,
          "libcublasLt.so.13: not found; install CUDA 13's cuBLAS or name its folder in LD_LIBRARY_PATH ({})",
          tried);
    bool all = true;
    const auto find = [&](const char* name, auto& to) {
      to = reinterpret_cast<std::remove_reference_t<decltype(to)>>(::dlsym(handle, name));
      all = all && to != nullptr;
    };
    find("cublasLtCreate", create);
    find("cublasLtDestroy", destroy);
    find("cublasLtMatmul", matmul);
    find("cublasLtMatmulDescCreate", desc_create);
    find("cublasLtMatmulDescDestroy", desc_destroy);
    find("cublasLtMatmulDescSetAttribute", desc_set);
    find("cublasLtMatrixLayoutCreate", layout_create);
    find("cublasLtMatrixLayoutDestroy", layout_destroy);
    find("cublasLtMatmulPreferenceCreate", preference_create);
    find("cublasLtMatmulPreferenceDestroy", preference_destroy);
    find("cublasLtMatmulPreferenceSetAttribute", preference_set);
    find("cublasLtMatmulAlgoGetHeuristic", heuristic);
    find("cublasLtGetStatusString", status_string);
    if (!all)
      return fail(error_code::unsupported, "libcublasLt.so.13: functions of version 13 are missing in it");
    return {};
  }
};

struct shape {
  std::size_t rows, outputs, inputs;
  auto operator<=>(const shape&) const = default;
};

}  // namespace

struct gemm::parts {
  library lib;
  cublasLtHandle_t handle = nullptr;
  device_memory workspace;
  struct plan {
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
    cublasLtMatmulAlgo_t algorithm = {};
  };
  std::map<shape, plan> plans;

  ~parts() {
    for (auto& [key, p] : plans) forget(p);
    if (handle != nullptr) lib.destroy(handle);
  }
  void forget(plan& p) {
    if (p.operation != nullptr) lib.desc_destroy(p.operation);
    for (auto layout : {p.a, p.b, p.c})
      if (layout != nullptr) lib.layout_destroy(layout);
  }
  result<void> checked(cublasStatus_t status, const char* what) const {
    if (status == CUBLAS_STATUS_SUCCESS) return {};
    return fail(error_code::internal, "cuBLASLt: {}: {}", what, lib.status_string(status));
  }

  // In the library's terms (columns first): y' [M, T] = w' transposed [M, N] · x' [N, T].
  result<void> describe(plan& p, const shape& s) {
    if (auto done = checked(lib.desc_create(&p.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                            "cublasLtMatmulDescCreate");
        !done)
      return done;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    if (auto done =
            checked(lib.desc_set(p.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed),
                    "transposition");
        !done)
      return done;
    for (auto [to, type, rows, columns] :
         {std::tuple{&p.a, CUDA_R_16BF, s.inputs, s.outputs}, std::tuple{&p.b, CUDA_R_16BF, s.inputs, s.rows},
          std::tuple{&p.c, CUDA_R_32F, s.outputs, s.rows}})
      if (auto done = checked(lib.layout_create(to, type, rows, columns, static_cast<std::int64_t>(rows)),
                              "cublasLtMatrixLayoutCreate");
          !done)
        return done;
    return {};
  }

  result<void> choose(plan& p, const shape& s) {
    cublasLtMatmulPreference_t preference = nullptr;
    if (auto done = checked(lib.preference_create(&preference), "cublasLtMatmulPreferenceCreate"); !done)
      return done;
    const std::size_t bytes = workspace_bytes;
    cublasLtMatmulHeuristicResult_t found = {};
    int count = 0;
    auto status =
        lib.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes);
    if (status == CUBLAS_STATUS_SUCCESS)
      status = lib.heuristic(handle, p.operation, p.a, p.b, p.c, p.c, preference, 1, &found, &count);
    lib.preference_destroy(preference);
    if (auto done = checked(status, "cublasLtMatmulAlgoGetHeuristic"); !done) return done;
    if (count == 0)
      return fail(error_code::unsupported, "cuBLASLt: no algorithm for [{}, {}] x [{}, {}]", s.rows, s.inputs,
                  s.outputs, s.inputs);
    p.algorithm = found.algo;
    return {};
  }
};

gemm::gemm(std::unique_ptr<parts> p) : parts_(std::move(p)) {}
gemm::~gemm() = default;

result<std::unique_ptr<gemm>> gemm::open() {
  auto p = std::make_unique<parts>();
  if (auto done = p->lib.open(); !done) return fail(std::move(done.error()));
  if (auto done = p->checked(p->lib.create(&p->handle), "cublasLtCreate"); !done)
    return fail(std::move(done.error()));
  auto memory = device_memory::take(workspace_bytes, "workspace of cuBLASLt");
  if (!memory) return fail(std::move(memory.error()));
  p->workspace = std::move(*memory);
  return std::unique_ptr<gemm>(new gemm(std::move(p)));
}

result<void> gemm::multiply(cudaStream_t stream, device_floats y, device_rows<const __nv_bfloat16> x,
                            const device_matrix& w) {
  auto& own = *parts_;
  const shape key{x.rows, w.rows, w.columns};
  auto found = own.plans.find(key);
  if (found == own.plans.end()) {
    parts::plan made;
    auto done = own.describe(made, key);
    if (done) done = own.choose(made, key);
    if (!done) {
      own.forget(made);
      return done;
    }
    found = own.plans.emplace(key, made).first;
  }
  const auto& p = found->second;
  const float one = 1, zero = 0;
  return own.checked(
      own.lib.matmul(own.handle, p.operation, &one, w.data, p.a, x.data, p.b, &zero, y.data, p.c, y.data, p.c,
                     &p.algorithm, own.workspace.as<void>(), workspace_bytes, stream),
      "cublasLtMatmul");
}

}  // namespace troupe::ops::cuda
