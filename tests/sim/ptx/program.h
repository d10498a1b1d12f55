// Decoded programs: the parser makes them of a PTX text, and the warps run them. Data only.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sim/ptx/launch.h"
#include "sim/ptx/types.h"

namespace sim::ptx {

struct Warp;
struct Instruction;
/// Runs one instruction for the given lanes of a warp.
using Handler = void (*)(Warp& warp, const Instruction& instruction, Lanes lanes);

/// What the scheduler has to know about an instruction; all others just run.
enum class Control : std::uint8_t {
    none,
    branch,      ///< to `target`
    indexed,     ///< brx.idx: to one of `list`
    call,        ///< of the function `target`
    leave,       ///< ret of an entry, exit
    back,        ///< ret of a function
    barrier,     ///< bar.sync and its like: all live lanes must arrive, then the warp waits for the block
    arrive,      ///< bar.arrive: all live lanes must arrive, and none waits
    collective,  ///< *.sync.aligned: all lanes of the warp must arrive
    masked,      ///< *.sync with a member mask in row `e`: the lanes that it names must arrive
};

/// Where the row of a register lies: an offset from the warp's registers or, with the top bit set, from the constants
/// of the kernel.
using Row = std::uint32_t;
constexpr Row kConstant = 0x80000000u, kNoRow = 0xffffffffu;

struct Instruction {
    Handler run = nullptr;
    Row d = kNoRow, a = kNoRow, b = kNoRow, c = kNoRow;
    Row e = kNoRow;      ///< a fourth source, or a second destination
    Row guard = kNoRow;  ///< predicate
    bool guard_negated = false, flag = false;
    Control control = Control::none;
    std::uint8_t count = 1;    ///< elements of a vector
    std::uint32_t list = 0;    ///< index in Kernel::lists of the first row of the vector operands
    std::uint32_t target = 0;  ///< instruction or function to go to; other handlers use it as they need
    std::int64_t offset = 0;   ///< of an address
};

/// Where an instruction comes from, for messages and for counts by opcode.
struct Origin {
    int line = 0;              ///< line of the PTX text, from 1
    std::uint32_t source = 0;  ///< index into Module::sources; 0: not known
    std::string_view text, opcode;
};

struct RowRange {
    Row row = 0;
    Type type = Type::none;
};

/// A special register that the kernel reads, and its row.
struct SpecialRow {
    std::uint8_t which = 0;
    Row row = 0;
};

struct Function {
    std::string name;
    std::uint32_t entry = 0;  ///< first instruction
    Row return_pc = 0;        ///< 32-bit row
};

class Kernel {
public:
    std::string name, pretty;
    const Module* module = nullptr;
    std::vector<Instruction> code;
    std::vector<Origin> origins;
    std::vector<std::string> opcodes;      ///< "ld.shared", as counted
    std::vector<std::uint16_t> opcode_of;  ///< by instruction, into opcodes
    std::vector<Row> lists;
    std::vector<Function> functions;
    std::vector<std::byte> constants;  ///< rows with headers, as in registers.h
    /// The rows of a warp's registers except special registers; their headers are cleared when a block begins.
    std::vector<Row> rows;
    std::vector<SpecialRow> specials;
    std::size_t register_bytes = 0;
    std::vector<Parameter> parameters;
    std::size_t parameter_bytes = 0, static_shared = 0, dynamic_shared_alignment = 16, local_bytes = 0;
    unsigned max_threads = 0;
    bool uses_variables = false;  ///< it names a .global or .const variable of the module
};

/// A .global or .const variable.
struct Variable {
    std::string name;
    bool constant = false;
    std::size_t bytes = 0, alignment = 1;
    std::byte* address = nullptr;
};

struct SourceLine {
    int file = 0, line = 0;
};

class Module {
public:
    std::string name, text;
    std::map<std::string, std::unique_ptr<Kernel>, std::less<>> kernels;
    std::vector<Variable> variables;
    std::vector<std::unique_ptr<std::byte[]>> storage;
    std::map<int, std::string> files;
    std::vector<SourceLine> sources{{}};
};

}  // namespace sim::ptx
