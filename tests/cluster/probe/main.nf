// What a task sees of its processors, GPUs and network: for test_profiles.py.

process SIMULATE {
    tag "${number}"
    label 'gpu'
    label 'per_tomogram'
    cpus 2

    input:
    val number

    output:
    stdout

    script:
    """
    echo "task ${number} threads \$OMP_NUM_THREADS gpus \${CUDA_VISIBLE_DEVICES:-none} home \${HOME:-none} array \${SLURM_ARRAY_TASK_ID:-none}"
    """
}

workflow {
    ClusterOptions.join(nextflow.Global.session.config.process)
    SIMULATE(Channel.of(1..3)).view()
}
