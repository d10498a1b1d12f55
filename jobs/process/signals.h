// Signals of the process. SIGUSR1 and SIGTERM ask a run to stop: they set a flag that the step loop reads.
// jobs/main.cpp calls the functions before MPI_Init, so that no signal is lost at the start.
#pragma once

namespace longlora {

/// From now on SIGUSR1 and SIGTERM only set the flag, in this thread and in all that it starts. Only for commands
/// that read the flag; other commands end at once, as processes do.
void take_stop_signals();
/// Whether one of these signals has come.
bool stop_signal_came();
/// From now on a write beyond the limit of file sizes fails with a sentence instead of killing the process.
void ignore_file_size_signal();
/// From now on a mapped file that cannot be read ends the process with a sentence and exit code 2.
void explain_bus_errors();
/// Turns off the report that Open MPI makes of a crash: it allocates memory, and may hang if the allocator crashed.
void leave_crashes_to_the_system();

}  // namespace longlora
