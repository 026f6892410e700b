// The folder outside the work folder where trainings keep their state: the option of `train` and `finetune`.
//
// Read in a function, not in the task's script: parameters that a script names count in Nextflow's cache key, and where the
// state lies changes nothing of what is trained.  CHECK has seen that the path holds nothing that a shell would not take as it is.
def state_option() {
    if (!params.training_state) {
        return ''
    }
    file(params.training_state).mkdirs()            // containers are given it (conf/base.config), so it must be there
    return "--state '${params.training_state}'"
}
