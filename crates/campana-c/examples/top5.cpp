// The same as top5.c in C++17: handles that free themselves, errors that are
// thrown.
//
// usage: top5 MODEL
#include <campana.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <exception>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr int kRuns = 10;
constexpr std::size_t kTop = 5;

void check(campana_status status, const char *what) {
    if (status != CAMPANA_OK)
        throw std::runtime_error(std::string(what) + ": " + campana_last_error());
}

struct Free {
    void operator()(campana_session *session) const { campana_session_free(session); }
    void operator()(campana_result *result) const { campana_result_free(result); }
};

using Session = std::unique_ptr<campana_session, Free>;
using Result = std::unique_ptr<campana_result, Free>;

Session open(const char *path) {
    campana_session *session = nullptr;
    check(campana_session_open(path, nullptr, &session), "open");
    return Session(session);
}

Result run(const Session &session, const campana_tensor &input) {
    campana_result *result = nullptr;
    check(campana_session_run(session.get(), &input, 1, &result), "run");
    return Result(result);
}

void top5(const char *path) {
    const Session session = open(path);
    campana_value declared;
    std::size_t inputs = 0;
    check(campana_session_inputs(session.get(), &declared, 1, &inputs), "inputs");
    if (inputs != 1 || declared.rank != 4 || declared.element_type != CAMPANA_FLOAT32 ||
        std::any_of(declared.dims + 1, declared.dims + 4, [](std::int64_t dim) { return dim < 1; }))
        throw std::runtime_error("the model takes no float32 [batch, channels, height, width]");

    const std::array<std::int64_t, 4> dims = {1, declared.dims[1], declared.dims[2],
                                              declared.dims[3]};
    std::vector<float> pixels;
    for (std::int64_t c = 0; c < dims[1]; c++)
        for (std::int64_t y = 0; y < dims[2]; y++)
            for (std::int64_t x = 0; x < dims[3]; x++)
                pixels.push_back(c == 0 ? float(y) / float(dims[2]) : float(x) / float(dims[3]));
    campana_tensor input = {};
    input.dims = dims.data();
    input.rank = 4;
    input.element_type = CAMPANA_FLOAT32;
    input.data = pixels.data();
    input.len_bytes = pixels.size() * sizeof(float);

    Result result = run(session, input);
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kRuns; i++)
        result = run(session, input);
    const std::chrono::duration<double, std::milli> elapsed =
        std::chrono::steady_clock::now() - start;

    campana_tensor output;
    check(campana_result_outputs(result.get(), &output, 1, nullptr), "outputs");
    if (output.element_type != CAMPANA_FLOAT32)
        throw std::runtime_error("the model gives no float32");
    const float *scores = static_cast<const float *>(output.data);
    std::vector<std::size_t> classes(output.len_bytes / sizeof(float));
    std::iota(classes.begin(), classes.end(), std::size_t{0});
    const std::size_t top = std::min(kTop, classes.size());
    std::partial_sort(classes.begin(), classes.begin() + std::ptrdiff_t(top), classes.end(),
                      [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
    for (std::size_t i = 0; i < top; i++)
        std::printf("%zu. class %zu, score %.4f\n", i + 1, classes[i], double(scores[classes[i]]));
    std::printf("%.3f ms a run, campana %s\n", elapsed.count() / kRuns, campana_version());
}

}  // namespace

int main(int argc, char **argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: %s MODEL\n", argv[0]);
        return 1;
    }
    try {
        top5(argv[1]);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
