// oneDNN is used in two ways. dnnl_sgemm takes any strides, alpha and beta without preparation. The matmul primitive
// also multiplies bfloat16, and is 5 to 20 % faster for a times b transposed (Zen 5, AVX-512; elsewhere both run the
// same kernel). To make a primitive takes 0.2 to 2 ms, so primitives are kept by shape. All of them share one
// scratchpad, so a training step allocates nothing after the first one.
#include "kernels/cpu/onednn_gemm.h"

#include <omp.h>

#include <map>
#include <string_view>
#include <tuple>
#include <vector>

#include <oneapi/dnnl/dnnl.hpp>

namespace longlora::cpu {
namespace {

struct Key {
    std::int64_t m, n, k, stride_out, stride_a, stride_b;
    DType type_out, type_a;
    bool transpose_a, transpose_b;
    float alpha, beta;
    int num_threads;
    auto operator<=>(const Key&) const = default;
};

struct Prepared {
    dnnl::memory out, a, b, scratchpad;
    dnnl::matmul primitive;
};

/// The stride that oneDNN expects: at least the width, even if there is only one row.
std::int64_t stride_of(const ConstTensor& t) {
    return t.num_rows() > 1 ? t.row_stride : std::max<std::int64_t>(t.width(), 1);
}

/// dnnl::memory takes void* even for sources, which a primitive only reads.
void* handle_of(const ConstTensor& source) { return const_cast<std::byte*>(source.bytes); }

dnnl::memory::desc describe(std::int64_t rows, std::int64_t columns, DType type, std::int64_t stride, bool transposed) {
    const auto data_type = type == DType::float32 ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
    return {{rows, columns}, data_type, transposed ? dnnl::memory::dims{1, stride} : dnnl::memory::dims{stride, 1}};
}

}  // namespace

struct OnednnGemm::State {
    dnnl::engine engine{dnnl::engine::kind::cpu, 0};
    dnnl::stream stream{engine};
    std::map<Key, Prepared> prepared;
    std::vector<std::byte> scratchpad;

    Prepared& prepare(const Key& key) {
        constexpr std::size_t kMost = 1000;
        if (const auto found = prepared.find(key); found != prepared.end()) return found->second;
        if (prepared.size() >= kMost) prepared.clear();
        dnnl::primitive_attr attributes;
        attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
        if (key.alpha != 1) attributes.set_output_scales(0, {key.alpha});
        if (key.beta != 0) {
            dnnl::post_ops sum;
            sum.append_sum(key.beta);
            attributes.set_post_ops(sum);
        }
        const auto out = describe(key.m, key.n, key.type_out, key.stride_out, false);
        const auto a = describe(key.m, key.k, key.type_a, key.stride_a, key.transpose_a),
                   b = describe(key.k, key.n, key.type_a, key.stride_b, key.transpose_b);
        const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, out), attributes, engine);
        const auto memory = [&](const dnnl::memory::desc& d) { return dnnl::memory(d, engine, DNNL_MEMORY_NONE); };
        const std::size_t need = description.scratchpad_desc().get_size();
        if (scratchpad.size() < need) scratchpad.resize(need);
        return prepared
            .emplace(key, Prepared{memory(out), memory(a), memory(b), memory(description.scratchpad_desc()),
                                   dnnl::matmul(description)})
            .first->second;
    }

    void run(const Key& key, const Tensor& out, const ConstTensor& a, const ConstTensor& b) {
        Prepared& p = prepare(key);
        p.out.set_data_handle(out.bytes), p.a.set_data_handle(handle_of(a)), p.b.set_data_handle(handle_of(b));
        p.scratchpad.set_data_handle(scratchpad.data());
        p.primitive.execute(
            stream,
            {{DNNL_ARG_SRC, p.a}, {DNNL_ARG_WEIGHTS, p.b}, {DNNL_ARG_DST, p.out}, {DNNL_ARG_SCRATCHPAD, p.scratchpad}});
        stream.wait();
    }
};

OnednnGemm::OnednnGemm() : state_(new State) {}
OnednnGemm::OnednnGemm(OnednnGemm&&) noexcept = default;
OnednnGemm::~OnednnGemm() = default;

bool OnednnGemm::has_bfloat16() {
    try {
        State().prepare({2, 2, 2, 2, 2, 2, DType::bfloat16, DType::bfloat16, false, false, 1, 0, 1});
        return true;
    } catch (const dnnl::error&) {
        return false;
    }
}

void OnednnGemm::operator()(Tensor out, ConstTensor a, ConstTensor b, bool transpose_a, bool transpose_b, float alpha,
                            float beta) {
    const std::int64_t m = out.shape[0], n = out.shape[1], k = a.shape[transpose_a ? 0 : 1];
    const bool wide = a.dtype == DType::float32;
    constexpr std::int64_t kRowsWorthPreparing = 64;
    if (wide && (transpose_a || !transpose_b || alpha != 1 || m < kRowsWorthPreparing)) {
        const auto status =
            dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, alpha, a.data<float>(), stride_of(a),
                       b.data<float>(), stride_of(b), beta, out.data<float>(), stride_of(out));
        ensure(status == dnnl_success, "oneDNN refused a product");
        return;
    }
    state_->run({m, n, k, stride_of(out), stride_of(a), stride_of(b), out.dtype, a.dtype, transpose_a, transpose_b,
                 alpha, beta, omp_get_max_threads()},
                out, a, b);
}

}  // namespace longlora::cpu
