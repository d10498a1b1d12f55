// Builds and runs the small kernels of the interpreter's tests. This file has no tests.
#include "sim/unit/ptx_support.h"

#include <boost/test/unit_test.hpp>

namespace sim::unit {

std::string module_text(const std::string& body, unsigned num_parameters, const std::string& inside,
                        const std::string& before) {
    std::string text = ".version 9.0\n.target sm_80\n.address_size 64\n" + before + "\n.visible .entry k(";
    for (unsigned p = 0; p < num_parameters; ++p)
        text += std::string(p ? ", " : "") + ".param .u64 p" + std::to_string(p);
    text +=
        ")\n{\n.reg .pred %p<64>;\n.reg .b16 %rs<64>;\n.reg .b32 %r<64>;\n.reg .b32 %f<64>;\n.reg .b64 %rd<64>;\n"
        ".reg .b64 %fd<64>;\n" +
        inside + "\n";
    for (unsigned p = 0; p < num_parameters; ++p)
        text += "ld.param.u64 %rd" + std::to_string(p) + ", [p" + std::to_string(p) + "];\n";
    return text + "mov.u32 %r0, %tid.x;\n" + body + "\nret;\n}\n";
}

Ran run_kernel(const std::string& text, std::vector<Buffer*> buffers, ptx::Extent grid, ptx::Extent block,
               std::size_t dynamic_shared, bool reversed) {
    Ran result;
    try {
        const auto module = ptx::parse_module(text, "test");
        ptx::GlobalMemory memory;
        ptx::Launch launch;
        launch.kernel = ptx::find_kernel(*module, "k");
        launch.grid = grid, launch.block = block, launch.dynamic_shared_bytes = dynamic_shared,
        launch.reversed = reversed;
        for (Buffer* buffer : buffers) {
            memory.add(buffer->words.data(), buffer->words.size() * 4);
            if (buffer->written) memory.wrote(buffer->words.data(), buffer->words.size() * 4);
            const std::uint64_t address = reinterpret_cast<std::uintptr_t>(buffer->words.data());
            const auto* bytes = reinterpret_cast<const std::byte*>(&address);
            launch.parameters.insert(launch.parameters.end(), bytes, bytes + 8);
        }
        ptx::run(launch, memory, result.counts);
    } catch (const ptx::Fault& fault) {
        result.fault = fault.what();
    }
    return result;
}

namespace {

std::string register_type(unsigned bits) {
    return bits == 1 ? ".pred" : bits <= 16 ? ".b16" : ".b" + std::to_string(bits);
}

/// The kernel of run_instruction: one thread for each set of operands; an operand takes 8 bytes of the input buffer.
std::string instruction_module(const std::string& text, unsigned result_bits,
                               const std::vector<unsigned>& source_bits) {
    std::string inside = ".reg " + register_type(result_bits) + " %d;\n.reg .b32 %t<8>;\n";
    std::string body =
        "mov.u32 %r1, %ctaid.x;\nmov.u32 %r2, %ntid.x;\nmad.lo.u32 %r3, %r1, %r2, %r0;\nmul.wide.u32 %rd10, %r3, " +
        std::to_string(8 * source_bits.size()) + ";\nadd.u64 %rd11, %rd0, %rd10;\n";
    for (std::size_t k = 0; k < source_bits.size(); ++k) {
        const std::string name = "%s" + std::to_string(k), place = "[%rd11+" + std::to_string(8 * k) + "]";
        inside += ".reg " + register_type(source_bits[k]) + " " + name + ";\n";
        if (source_bits[k] == 1)
            body += "ld.global.u32 %t" + std::to_string(k) + ", " + place + ";\nsetp.ne.u32 " + name + ", %t" +
                    std::to_string(k) + ", 0;\n";
        else body += "ld.global.b" + std::to_string(source_bits[k]) + " " + name + ", " + place + ";\n";
    }
    body += text + ";\nmul.wide.u32 %rd12, %r3, 8;\nadd.u64 %rd13, %rd1, %rd12;\n";
    if (result_bits == 1) body += "selp.b32 %t7, 1, 0, %d;\nst.global.b32 [%rd13], %t7;\n";
    else body += "st.global.b" + std::to_string(result_bits) + " [%rd13], %d;\n";
    return module_text(body, 2, inside);
}

}  // namespace

Values run_instruction(const std::string& text, unsigned result_bits, const std::vector<unsigned>& source_bits,
                       const std::vector<Values>& operands) {
    const std::size_t number = operands.empty() ? 32 : operands[0].size(), blocks = (number + 63) / 64;
    Buffer in, out;
    in.words.assign(2 * std::max<std::size_t>(1, source_bits.size()) * blocks * 64, 0);
    out.words.assign(2 * blocks * 64, 0);
    for (std::size_t k = 0; k < number; ++k)
        for (std::size_t n = 0; n < operands.size(); ++n)
            std::memcpy(&in.words[2 * (k * operands.size() + n)], &operands[n][k], 8);
    const Ran ran = run_kernel(instruction_module(text, result_bits, source_bits), {&in, &out},
                               {static_cast<unsigned>(blocks), 1, 1}, {64, 1, 1});
    BOOST_REQUIRE_MESSAGE(ran.fault.empty(), ran.fault);
    Values result(number);
    for (std::size_t k = 0; k < number; ++k) std::memcpy(&result[k], &out.words[2 * k], 8);
    return result;
}

namespace {

std::vector<Values> combined(const std::vector<Values>& edges, std::size_t random, const std::vector<unsigned>& bits) {
    std::vector<Values> result(edges.size());
    std::size_t number = 1;
    for (const Values& values : edges) number *= values.size();
    // An odd step reaches all values of each operand.
    const std::size_t step = number > 4096 ? number / 4096 * 2 + 1 : 1;
    for (std::size_t k = 0; k < number; k += step)
        for (std::size_t n = 0, rest = k; n < edges.size(); rest /= edges[n].size(), ++n)
            result[n].push_back(edges[n][rest % edges[n].size()]);
    std::mt19937_64 generator(7);
    for (std::size_t k = 0; k < random; ++k)
        for (std::size_t n = 0; n < edges.size(); ++n)
            result[n].push_back(bits[n] == 64 ? generator() : generator() & ((std::uint64_t{1} << bits[n]) - 1));
    return result;
}

}  // namespace

std::vector<Values> operands_of(const std::vector<unsigned>& bits, std::size_t random) {
    std::vector<Values> edges;
    for (const unsigned width : bits) {
        const std::uint64_t all = width == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << width) - 1;
        if (width == 1) edges.push_back({0, 1});
        else
            edges.push_back({0, 1, 2, 5, 31, 32, 33, 63, 64, 100, all, all - 1, all >> 1, (all >> 1) + 1,
                             0x5555555555555555u & all, 0x8181818181818181u & all});
    }
    return combined(edges, random, bits);
}

std::vector<Values> floats_of(unsigned sources, std::size_t random) {
    const Values edges{0x00000000, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000,
                       0x7f800001, 0x00000001, 0x80000001, 0x007fffff, 0x00800000, 0x80800000, 0x7f7fffff,
                       0xff7fffff, 0x3effffff, 0x3f000000, 0x3fc00000, 0x40200000, 0x4b000001, 0x4f000000,
                       0xcf000000, 0x5f000000, 0x40490fdb, 0x33800000};
    return combined(std::vector<Values>(sources, edges), random, std::vector<unsigned>(sources, 32));
}

std::vector<Values> doubles_of(unsigned sources, std::size_t random) {
    Values edges;
    for (const double x : {0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, 1e300, -1e300, 4.9e-324, 2.2e-308, 3.14159,
                           2147483648.0, -2147483649.0, 1e19, 0x1p-126, 65520.0, 0x1p128})
        edges.push_back(bits_of(x));
    for (const std::uint64_t x : {0x7ff0000000000000u, 0xfff0000000000000u, 0x7ff8000000000000u}) edges.push_back(x);
    return combined(std::vector<Values>(sources, edges), random, std::vector<unsigned>(sources, 64));
}

std::vector<Values> halves_of(unsigned sources, std::size_t random) {
    const Values edges{0x0000, 0x8000, 0x3f80, 0xbf80, 0x7f80, 0xff80, 0x7fc0, 0x0001, 0x007f, 0x0080,
                       0x7f7f, 0xff7f, 0x3c00, 0xbc00, 0x7c00, 0x7e00, 0x0400, 0x03ff, 0x7bff, 0x3555};
    return combined(std::vector<Values>(sources, edges), random, std::vector<unsigned>(sources, 16));
}

std::string names(unsigned first, std::size_t number) {
    std::string text = "{";
    for (unsigned k = 0; k < number; ++k) text += std::string(k ? ", " : "") + "%r" + std::to_string(first + k);
    return text + "}";
}

std::uint32_t half(bool is_bf16, int x) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(static_cast<float>(x));
    if (is_bf16) return bits >> 16;
    return x == 0 ? 0 : (bits >> 16 & 0x8000) | (((bits >> 23 & 255) - 112) << 10) | (bits >> 13 & 0x3ff);
}

std::string hexadecimal(std::uint64_t value) {
    char text[24];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
    return text;
}

void require_equal(const std::string& instruction, const Values& operands, std::uint64_t got, std::uint64_t expected) {
    if (got == expected) return;
    std::string text = instruction + " of";
    for (const std::uint64_t operand : operands) text += " " + hexadecimal(operand);
    BOOST_ERROR(text + ": got " + hexadecimal(got) + ", expected " + hexadecimal(expected));
}

}  // namespace sim::unit
