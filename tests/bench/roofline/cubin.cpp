// A program is an ELF file. Its section .nv_fatbin holds fat binaries one after the other, each with a header and
// entries. An entry of kind 2 is a cubin, which is an ELF file again, with a section .text.KERNEL for each kernel. The
// lower 24 bits of that section's sh_info are the number of the kernel's symbol. The section .nv.info has attributes of
// kernels by that number; the section .nv.info.KERNEL has more attributes of one kernel.
#include "tests/bench/roofline/cubin.h"

#include <elf.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string_view>

namespace longlora::roofline {
namespace {

using Bytes = std::string_view;

template <class T> T at(Bytes bytes, std::uint64_t offset) {
    if (offset + sizeof(T) > bytes.size()) throw std::runtime_error("a fat binary or cubin ends too early");
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

struct Section {
    Elf64_Shdr header;
    Bytes bytes;
};

std::map<std::string, Section> sections_of(Bytes elf) {
    const auto header = at<Elf64_Ehdr>(elf, 0);
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
        throw std::runtime_error("a cubin is not an ELF file; build with nvcc's option --compress-mode=none");
    const auto section = [&](unsigned i) {
        return at<Elf64_Shdr>(elf, header.e_shoff + std::uint64_t{i} * header.e_shentsize);
    };
    const Elf64_Shdr names = section(header.e_shstrndx);
    std::map<std::string, Section> all;
    for (unsigned i = 0; i < header.e_shnum; ++i) {
        const Elf64_Shdr s = section(i);
        const bool here = s.sh_type != SHT_NOBITS;
        all[elf.data() + names.sh_offset + s.sh_name] = {s, here ? elf.substr(s.sh_offset, s.sh_size) : Bytes()};
    }
    return all;
}

enum Attribute { kMaxThreads = 5, kFrameSize = 0x11, kRegisterCount = 0x2f };

/// Calls each(offset) with the offset of every value of the attribute. An entry of format 4 has a size, and that many
/// bytes follow it.
template <class Each> void for_attribute(Bytes info, Attribute wanted, const Each& each) {
    for (std::uint64_t i = 0; i + 4 <= info.size();) {
        const auto format = at<std::uint8_t>(info, i), attribute = at<std::uint8_t>(info, i + 1);
        if (format == 4 && attribute == wanted) each(i + 4);
        i += 4 + (format == 4 ? at<std::uint16_t>(info, i + 2) : 0);
    }
}

/// The threads of a block that __launch_bounds__ allows; 0 without it.
int max_threads_of(Bytes info) {
    int threads = 0;
    for_attribute(info, kMaxThreads,
                  [&](std::uint64_t i) { threads = at<int>(info, i) * at<int>(info, i + 4) * at<int>(info, i + 8); });
    return threads;
}

/// Looks up a kernel's value of an attribute in .nv.info, which has pairs of a symbol and a number.
int value_of_symbol(Bytes info, Attribute attribute, std::uint32_t symbol) {
    int value = -1;
    for_attribute(info, attribute, [&](std::uint64_t i) {
        if (at<std::uint32_t>(info, i) == symbol) value = at<int>(info, i + 4);
    });
    if (value < 0) throw std::runtime_error("a cubin does not state the registers or the stack size of a kernel");
    return value;
}

void add_kernels(std::vector<CompiledKernel>& kernels, Bytes cubin) {
    const auto sections = sections_of(cubin);
    const auto size_of = [&](const std::string& name) {
        const auto found = sections.find(name);
        return found == sections.end() ? 0 : static_cast<std::int64_t>(found->second.header.sh_size);
    };
    const auto infos = sections.find(".nv.info");
    const Bytes all = infos == sections.end() ? Bytes() : infos->second.bytes;
    for (const auto& [name, section] : sections) {
        if (!name.starts_with(".text.")) continue;
        CompiledKernel kernel;
        kernel.name = name.substr(6);
        const std::uint32_t symbol = section.header.sh_info & 0xffffff;
        kernel.registers = value_of_symbol(all, kRegisterCount, symbol);
        kernel.static_shared_bytes = size_of(".nv.shared." + kernel.name);
        kernel.local_bytes = value_of_symbol(all, kFrameSize, symbol) + size_of(".nv.local." + kernel.name);
        if (const auto info = sections.find(".nv.info." + kernel.name); info != sections.end())
            kernel.max_threads = max_threads_of(info->second.bytes);
        for (std::uint64_t i = 0; i + 16 <= section.bytes.size(); i += 16)
            kernel.code.push_back({at<std::uint64_t>(section.bytes, i), at<std::uint64_t>(section.bytes, i + 8)});
        kernels.push_back(std::move(kernel));
    }
}

}  // namespace

std::vector<CompiledKernel> read_kernels(const std::string& program, int architecture) {
    constexpr std::uint32_t kMagic = 0xba55ed50;
    constexpr std::uint16_t kCubin = 2;
    std::ifstream file(program, std::ios::binary);
    const std::string whole((std::istreambuf_iterator<char>(file)), {});
    const auto sections = sections_of(whole);
    const auto fatbin = sections.find(".nv_fatbin");
    if (fatbin == sections.end()) throw std::runtime_error(program + " holds no code for GPUs");
    const Bytes bytes = fatbin->second.bytes;
    std::vector<CompiledKernel> kernels;
    for (std::uint64_t begin = 0; begin + 16 <= bytes.size();) {
        if (at<std::uint32_t>(bytes, begin) != kMagic) {  // padding between fat binaries
            begin += 8;
            continue;
        }
        const std::uint64_t header = at<std::uint16_t>(bytes, begin + 6),
                            end = begin + header + at<std::uint64_t>(bytes, begin + 8);
        for (std::uint64_t entry = begin + header; entry < end;) {
            const auto kind = at<std::uint16_t>(bytes, entry);
            const std::uint64_t entry_header = at<std::uint32_t>(bytes, entry + 4),
                                size = at<std::uint64_t>(bytes, entry + 8);
            const auto sm = at<std::uint32_t>(bytes, entry + 28);
            if (kind == kCubin && sm == static_cast<std::uint32_t>(architecture))
                add_kernels(kernels, bytes.substr(entry + entry_header, size));
            entry += entry_header + size;
        }
        begin = end;
    }
    if (kernels.empty()) throw std::runtime_error(program + " holds no code for sm_" + std::to_string(architecture));
    return kernels;
}

}  // namespace longlora::roofline
