// Signals of the program. SIGUSR1 and SIGTERM ask a run to stop: they set a flag that the step loop reads. All of it is
// set up before MPI_Init, so nothing is lost at start.
#pragma once

namespace longlora {

/// From now on, in this process and its threads to come. Only for commands that read the flag: the others end at once,
/// as processes do.
void take_stop_signals();
bool stop_signal_came();
void ignore_file_size_signal();  ///< a file size limit becomes a failed write with a sentence
void explain_bus_errors();       ///< a mapped file that cannot be read ends the process with a sentence and exit code 2
void leave_crashes_to_the_system();  ///< Open MPI's own report of a crash allocates memory, and may hang where that is
                                     ///< what crashed

}  // namespace longlora
